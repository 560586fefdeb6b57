//! A terminal is a conversation: the screen of a real pseudo-terminal, read by a parser that is not ours.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod screen;

use std::process::Command;

use azsreg_lab::{LabOptions, StampOptions};
use common::World;
use screen::Screen;
use serde_json::json;

const CTRL_C: &str = "\u{3}";
const WIDTHS: [u16; 3] = [44, 80, 120];
const REGISTER: &[&str] = &["register", "--billing-model", "development"];

fn registered() -> World {
    let world = World::new();
    world.run(REGISTER).ends(0);
    world
}

fn both(world: &World, arguments: &[&str]) -> Command {
    world.both(0, &world.state(), arguments)
}

/// Without the blanks and line ends that wrapping makes.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_password_is_asked_for_on_a_quiet_screen_and_control_c_gives_the_terminal_back() {
    for columns in WIDTHS {
        let world = World::new();
        let mut command = world.command(0, &world.state());
        command.env_remove("AZSREG_PEP_PASSWORD").args(["stamp", "info"]);
        let mut screen = Screen::of(&mut command, columns, 24);
        screen.shows("Password of");
        screen.stands_still();
        screen.types("not shown");
        screen.stands_still();
        assert!(!screen.text().contains("not shown") && !screen.echoes(), "{}", screen.text());
        screen.types(CTRL_C);
        let text = screen.ends(130);
        assert!(
            text.contains("Password of") && joined(&text).contains("interrupted before anything was changed"),
            "{text}"
        );
        assert!(screen.echoes(), "what is typed is shown again");
        // Nothing was sent to the privileged endpoint.
        assert_eq!(world.control_with("GET", "/stamps/stamp1/logons", &json!(null))["requests"], 0);
        let password = std::fs::read_to_string(&world.lab.descriptor().stamps[0].pep_password_file).unwrap();
        let mut screen = Screen::of(&mut command, columns, 40);
        screen.shows("Password of");
        screen.types(&format!("{}\r", password.trim_end()));
        let text = screen.ends(0);
        assert!(joined(&text).contains("1.2501.0.21"), "{text}");
    }
}

#[test]
fn a_question_stays_on_the_screen_with_what_is_typed_and_control_c_ends_it_at_once() {
    for columns in WIDTHS {
        let world = registered();
        let before = world.lab.export();
        let mut screen = Screen::of(&mut both(&world, &["unregister"]), columns, 30);
        screen.shows("Type yes:");
        screen.stands_still();
        screen.types("ye");
        screen.shows("Type yes: ye");
        screen.stands_still();
        // The window is made larger and smaller: the question is still there.
        screen.resize(columns + 10, 30);
        screen.stands_still();
        assert!(screen.text().contains("Type yes: ye"), "{}", screen.text());
        screen.types(CTRL_C);
        let text = screen.ends(130);
        assert!(joined(&text).contains("interrupted before anything was changed"), "{text}");
        assert_eq!(world.lab.export(), before, "nothing was changed");
        let mut screen = Screen::of(&mut both(&world, &["unregister"]), columns, 60);
        screen.shows("Type yes:");
        screen.types("yes\r");
        screen.ends(0);
        assert_eq!(world.lab.world()["registrations"], json!([]));
    }
}

#[test]
fn the_end_of_the_input_at_a_question_leaves_a_row_for_what_comes_next() {
    let world = registered();
    let before = world.lab.export();
    let mut screen = Screen::of(&mut both(&world, &["unregister"]), 80, 30);
    screen.shows("Type yes:");
    screen.stands_still();
    screen.types("\u{4}");
    let text = screen.ends(2);
    assert!(text.lines().any(|row| row.ends_with("Type yes:")) && text.contains("AZR1014"), "{text}");
    assert_eq!(world.lab.export(), before);
}

#[test]
fn a_question_is_seen_where_stderr_goes_to_a_file() {
    let world = registered();
    let command = both(&world, &["unregister"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let mut screen = Screen::of(shell.env("LOG", world.path("stderr")), 80, 30);
    screen.shows("Type yes:");
    screen.types("yes\r");
    screen.ends(0);
    assert_eq!(world.lab.world()["registrations"], json!([]));
}

#[test]
fn a_transcript_is_shown_whole_and_written_after_a_yes_alone() {
    let world = World::new();
    let file = world.path("transcript.json");
    for (answer, written, said) in
        [("no\r", false, "the transcript was not written"), ("yes\r", true, "Read it before you send it")]
    {
        let mut screen = Screen::of(&mut both(&world, &["check", "--transcript", &file]), 120, 3_000);
        screen.shows("Type yes:");
        let text = screen.text();
        assert!(text.contains("\"azsreg_transcript\": 2") && text.contains("\"commands\": {"), "{text}");
        assert!(!std::path::Path::new(&file).exists());
        screen.types(answer);
        let text = joined(&screen.ends(0));
        assert_eq!(std::path::Path::new(&file).exists(), written, "{text}");
        assert!(text.contains(&joined(said)), "{text}");
    }
}

#[test]
fn control_c_at_a_number_ends_it_too() {
    let world = World::new();
    world.run(&["register", "--billing-model", "capacity", "--agreement-number", "A-1"]).ends(0);
    let fresh = world.dir.path().join("fresh");
    let before = world.lab.export();
    let mut screen = Screen::of(&mut world.both(0, &fresh, &["renew"]), 80, 24);
    screen.shows("leave it empty to stop:");
    screen.stands_still();
    screen.types(CTRL_C);
    screen.ends(130);
    assert_eq!(world.lab.export(), before);
}

#[test]
fn the_legal_terms_are_asked_about_on_a_quiet_screen() {
    for columns in WIDTHS {
        let world = registered();
        let cloud_id = world.lab.descriptor().stamps[0].cloud_id.to_string();
        let to = world.path("items");
        let mut command = world.at_azure(&[
            "marketplace",
            "download",
            "azsreglab.tiny-linux-1.0.3",
            "--to",
            &to,
            "--cloud-id",
            &cloud_id,
        ]);
        let mut screen = Screen::of(&mut command, columns, 40);
        screen.shows("Type yes:");
        screen.stands_still();
        screen.types(CTRL_C);
        let text = screen.ends(130);
        assert!(joined(&text).contains("Do you accept them?"), "{text}");
    }
}

#[test]
fn a_device_code_stays_on_the_screen_until_it_is_entered() {
    for columns in WIDTHS {
        let world = World::with(LabOptions {
            stamps: vec![StampOptions::default()],
            auto_approve: false,
            ..LabOptions::default()
        });
        let mut screen = Screen::of(world.command(0, &world.state()).arg("login"), columns, 24);
        screen.until("the code", |text| joined(text).contains("enter the code"));
        let text = joined(&screen.text());
        let code = text.split("enter the code ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        assert!(screen.rows().iter().any(|row| row.contains(&code)), "the code is in one row: {}", screen.text());
        screen.types(CTRL_C);
        let text = screen.ends(130);
        assert!(text.contains(&code), "{text}");
    }
}

#[test]
fn no_id_is_broken_at_any_width() {
    let world = registered();
    let told = world.lab.descriptor();
    let ids = [told.subscription_id.to_string(), told.stamps[0].cloud_id.to_string()];
    let commands: &[&[&str]] = &[
        &["status"],
        &["check"],
        &["list"],
        &["stamp", "info"],
        &["register", "--billing-model", "development", "--plan"],
        &["register", "--billing-model", "development", "--name", "other", "--plan"],
        &["unregister", "--plan"],
    ];
    for columns in WIDTHS {
        for arguments in commands {
            let mut screen = Screen::of(&mut both(&world, arguments), columns, 250);
            let text = screen.whole();
            let unbroken = text.replace('\n', "");
            // With the line ends taken out a broken id is whole: it must be so in a row, too.
            for id in &ids {
                let whole = unbroken.matches(id.as_str()).count();
                let in_rows: usize = screen.rows().iter().map(|row| row.matches(id.as_str()).count()).sum();
                assert!(in_rows >= whole, "{arguments:?} at {columns}: {id} is broken:\n{text}");
            }
        }
    }
}

#[test]
fn check_fits_thirty_rows_with_what_failed_in_sight() {
    let world = World::new();
    let scope = format!("/subscriptions/{}", world.lab.descriptor().subscription_id);
    world.control("/locks", &json!({"scope": scope, "name": "freeze", "level": "ReadOnly"}));
    let mut screen = Screen::of(&mut both(&world, &["check"]), 80, 30);
    let text = screen.ends(7);
    assert!(text.contains("failed") && joined(&text).contains("freeze (ReadOnly)"), "{text}");
    assert!(joined(&text).contains("Nothing was changed."), "{text}");
}
