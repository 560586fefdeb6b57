//! `azsreg role`.

use azsreg_model::{CustomRole, ExitCode, OPERATOR_ROLE_NAME, role_condition};
use azsreg_operations::role;
use serde_json::json;

use super::connect::{self, Azure, CLOCK};
use crate::Ended;
use crate::cli::{Global, RoleCommand};
use crate::secrets::Sources;
use crate::view::View;
use crate::watch::Screen;

/// With `--plan`: what would be done.
pub(super) fn planned(view: &View, what: &str) -> ExitCode {
    if view.is_json() {
        view.json(&json!({"outcome": "planned", "plan": what}));
    } else {
        view.line(&format!("Plan: {what}. Nothing was changed."));
    }
    ExitCode::ChangesPlanned
}

pub(crate) async fn run(
    global: &Global,
    command: &RoleCommand,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    let screen = Screen::new(global, 0);
    match command {
        RoleCommand::Show(options) => {
            let role = CustomRole::for_operators(&options.subscription);
            let scopes = if role.assignable_scopes.is_empty() {
                vec!["/subscriptions/<subscription>".to_owned()]
            } else {
                role.assignable_scopes
            };
            // The form that `az role definition create` and the portal take; the condition is the assignment's.
            View::definition(&json!({
                "Name": role.name, "IsCustom": true, "Description": role.description, "Actions": role.actions, "NotActions": [],
                "DataActions": [], "NotDataActions": [], "AssignableScopes": scopes, "AssignmentCondition": role_condition(),
            }));
            Ok(ExitCode::Done)
        }
        RoleCommand::Create(options) => {
            let work = async |azure: Azure<'_, '_>| {
                Ok(role::create(
                    azure.world.azure,
                    &CLOCK,
                    &connect::books(global, &azure.state_dir),
                    (options.subscription, options.update, options.plan.plan),
                    &mut screen.clone(),
                )
                .await?)
            };
            let (changed, id) =
                connect::azure(global, &options.azure, sources, &screen, Some(options.subscription), work).await?;
            if options.plan.plan && changed {
                return Ok(planned(
                    view,
                    &format!("the role {OPERATOR_ROLE_NAME:?} would be made or brought up to date"),
                ));
            }
            let id = id.unwrap_or_default();
            if view.is_json() {
                view.json(&json!({"role": OPERATOR_ROLE_NAME, "id": id, "changed": changed}));
            } else if changed {
                view.line(&format!("The role {OPERATOR_ROLE_NAME:?} is there, with the id {id}."));
                view.line("Next: azsreg role assign --to OBJECT-ID");
            } else {
                view.line(&format!(
                    "Nothing to do: the role {OPERATOR_ROLE_NAME:?} is there already, with the id {id}."
                ));
            }
            Ok(ExitCode::Done)
        }
        RoleCommand::Assign(options) => {
            let work = async |azure: Azure<'_, '_>| {
                Ok(role::assign(
                    azure.world.azure,
                    &CLOCK,
                    &connect::books(global, &azure.state_dir),
                    (options.subscription, options.to, options.plan.plan),
                    &mut screen.clone(),
                )
                .await?)
            };
            connect::azure(global, &options.azure, sources, &screen, Some(options.subscription), work).await?;
            if options.plan.plan {
                let what = format!("the role {OPERATOR_ROLE_NAME:?} would be given to {}", options.to);
                return Ok(planned(view, &what));
            }
            if view.is_json() {
                view.json(&json!({"role": OPERATOR_ROLE_NAME, "to": options.to, "condition": role_condition()}));
            } else {
                view.line(&format!(
                    "{} has the role {OPERATOR_ROLE_NAME:?} on the subscription {}.",
                    options.to, options.subscription
                ));
                view.line(
                    "It can give no role but \"Azure Stack Registration Owner\": the assignment has a condition.",
                );
            }
            Ok(ExitCode::Done)
        }
    }
}
