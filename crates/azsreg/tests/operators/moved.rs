//! A move that is stopped half-way leaves the registration locked, or says that it is not.

use super::*;

fn refused_role() -> Value {
    json!({"when": {"plane": "arm", "method": "DELETE", "route": "roleassignments"},
        "then": {"status": 403, "error": "AuthorizationFailed", "message": "The client 'x' with object id 'y' does not have authorization to perform action 'Microsoft.Authorization/roleAssignments/delete' over scope '/z'"}})
}

#[test]
fn a_move_whose_role_deletion_is_refused_ends_locked() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.lab.fault(refused_role()).unwrap();
    let stopped = world.run(&["move", "--to-resource-group", "other"]).ends(6).says("AZR4009");
    assert!(!stopped.stderr.contains("AZR6028"), "{}", stopped.stderr);
    assert_registered_once(&world.lab.world(), "where it was, locked");
    world.control_with("DELETE", "/faults", &Value::Null);
    world.run(&["move", "--to-resource-group", "other"]).ends(0);
    assert_registered_once(&world.lab.world(), "moved");
}

#[test]
fn a_move_that_can_not_put_the_lock_back_says_so_first() {
    let world = World::new();
    world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
    world.lab.fault(refused_role()).unwrap();
    let rule = json!({"when": {"plane": "arm", "method": "PUT", "route": "locks"}, "then": {"status": 403, "error": "AuthorizationFailed", "message": "no"}});
    world.lab.fault(rule).unwrap();
    let stopped = world.run(&["move", "--to-resource-group", "other", "-o", "json"]);
    assert_ne!(stopped.code, Some(0));
    let first = stopped.stderr.find("AZR").map(|at| &stopped.stderr[at..at + 7]);
    let text = format!("{}{}", stopped.stdout, stopped.stderr);
    assert!(text.contains("AZR6028"), "{text}");
    assert!(
        first.is_none_or(|code| code == "AZR6028") || stopped.stdout.find("AZR6028") < stopped.stdout.find("AZR4009"),
        "{text}"
    );
    world.control_with("DELETE", "/faults", &Value::Null);
    world.run(&["repair"]).ends(0);
    assert_registered_once(&world.lab.world(), "repaired");
}

/// One odd 404 at each look of a move: it ends locked, where it says it is.
#[test]
fn a_move_with_one_missing_answer_ends_locked() {
    for nth in 1..=4 {
        let world = World::new();
        world.run(&["register", "--billing-model", "pay-as-you-use"]).ends(0);
        let rule = json!({"when": {"plane": "arm", "method": "GET", "route": "microsoft.azurestack/registrations/", "nth": nth},
            "then": {"status": 404, "error": "ResourceNotFound", "message": "gone for a moment"}, "limit": 1});
        world.lab.fault(rule).unwrap();
        let ran = world.run(&["move", "--to-resource-group", "other"]);
        let now = world.lab.world();
        for list in ["registrations", "locks"] {
            assert_eq!(now[list].as_array().unwrap().len(), 1, "look {nth}: {list}: {}{}", ran.stdout, ran.stderr);
        }
        let id = now["registrations"][0]["id"].as_str().unwrap();
        assert!(now["locks"][0]["id"].as_str().unwrap().starts_with(id), "look {nth}");
        if ran.code == Some(0) {
            assert_registered_once(&now, &format!("look {nth}"));
            assert!(id.contains("/resourceGroups/other/"), "look {nth}");
        }
        world.run(&["move", "--to-resource-group", "other"]).ends(0);
        assert_registered_once(&world.lab.world(), &format!("look {nth}, run again"));
    }
}
