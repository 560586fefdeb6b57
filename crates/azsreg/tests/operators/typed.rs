//! What a person is asked about a value that may not be meant.

use super::*;
use crate::terminal::Terminal;

#[test]
fn a_password_that_may_not_be_meant_is_asked_about_before_it_is_sent() {
    let world = World::new();
    let failed = || world.lab.world()["stamps"][0]["logons_failed"].as_u64().unwrap();
    let secret = world.file("password", "p\u{201d}assword\r\n").display().to_string();
    let info = ["stamp", "info", "--pep-password", &format!("@{secret}")];
    for (answer, code, said, sent) in [("no", 2, "AZR1022", 0), ("yes", 1, "AZR2002", 1)] {
        let mut terminal = Terminal::open();
        let mut asked = terminal.run(&mut reader(&world, "a", &info));
        asked.is_asked(1);
        assert!(asked.said.contains("a right double quotation mark (U+201D) at character 2"), "{}", asked.said);
        assert_eq!(failed(), 0, "it was sent before it was asked about");
        terminal.answer(answer);
        asked.ends(code).says(said);
        assert_eq!(failed(), sent, "{answer}");
    }
}
