//! The agreement number: it is not lost, not written back from an old journal, and asked for where it is not known.

use super::*;
#[cfg(unix)]
use crate::terminal::Terminal;

#[test]
fn adopting_does_not_hide_the_agreement_number() {
    let world = World::new();
    world.run(&CAPACITY).ends(0);
    world.run(&["renew", "--plan"]).ends(4);
    world.run(&["adopt"]).ends(0);
    world.run(&["renew", "--plan"]).ends(4);
    world.run(&["set", "--marketplace", "off"]).ends(0);
    assert_eq!(world.lab.world()["registrations"][0]["token"]["agreementNumber"], "333");
}

/// The number is what this machine wrote, and holds while nothing else has written to the registration.
#[test]
fn an_old_number_is_not_written_back() {
    let world = World::new();
    world.run(&CAPACITY).ends(0);
    let module = ["set", "--agreement-number", "444"];
    run(&mut reader(&world, "module", &module)).ends(0);
    let number = || world.lab.world()["registrations"][0]["token"]["agreementNumber"].clone();
    assert_eq!(number(), "444");
    for line in [&["set", "--marketplace", "off"][..], &["renew"]] {
        world.run(line).ends(7).says("AZR6016").says("333").says("--agreement-number");
        assert_eq!(number(), "444", "{line:?}");
    }
    world.run(&["adopt"]).ends(0);
    world.run(&["set", "--marketplace", "off"]).ends(7).says("AZR6016").says("333");
    assert_eq!(number(), "444");
    let again = world.run(&CAPACITY).ends(0);
    assert!(!again.stdout.contains("Nothing to do"), "{}", again.stdout);
    assert_eq!(number(), "333", "as asked");
    world.run(&["set", "--marketplace", "off"]).ends(0);
    assert_eq!(number(), "333");
}

/// A terminal is asked for the number.
#[cfg(unix)]
#[test]
fn a_number_that_is_not_known_is_asked_for() {
    let world = World::new();
    world.run(&CAPACITY).ends(0);
    run(&mut reader(&world, "module", &["set", "--agreement-number", "444"])).ends(0);
    let mut terminal = Terminal::open();
    let mut command = world.both(0, &world.state(), &["set", "--marketplace", "off"]);
    let asked = terminal.run(&mut command);
    terminal.answer("444");
    asked.ends(0).says("333");
    let now = world.lab.world();
    assert_eq!(now["registrations"][0]["token"]["agreementNumber"], "444");
    assert_eq!(now["stamps"][0]["activation"]["properties"]["marketplaceSyndicationEnabled"], false);
}
