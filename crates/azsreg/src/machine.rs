//! This machine before the person: what this machine alone can refuse is looked at before a code or a password is asked for.
//! Nothing is made: a command that is only planned, or refused by a side, leaves nothing behind.

use std::io;
use std::path::Path;

use azsreg_model::{Problem, check_names, code};
use azsreg_operations::StampLock;
use azsreg_operations::files::{self, kept};
use uuid::Uuid;

use crate::cli::{
    AlertsCommand, Command, CustomerCommand, Global, MarketplaceCommand, OfflineCommand, OfflineRenewCommand,
    RoleCommand, StampCommand,
};
use crate::commands::register::broken_rule;
use crate::commands::{files as carried, transcript};
use crate::secrets::Sources;
use crate::state;

/// What a command keeps in the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Nothing but a sign-in, which it can do without.
    Nothing,
    /// A sign-in: that is all it is for.
    SignIn,
    /// A journal, under a lock of its own.
    Journal,
    /// A journal, under the lock on its stamp.
    Stamp,
}

/// Looks at what a command writes.
///
/// # Errors
/// It can't be written, stands in the way, or the stamp is being worked on.
pub(crate) fn look(global: &Global, command: &Command, sources: &Sources) -> Result<(), Problem> {
    let (name, group) = new_names(command);
    check_names(name, group).map_err(|error| broken_rule(&error))?;
    match command {
        Command::Offline(command) => match command {
            OfflineCommand::Token(options) | OfflineCommand::Renew(OfflineRenewCommand::Start(options)) => {
                carried::check_place(&options.out.out)?;
            }
            OfflineCommand::Key(options) => carried::check_place(&options.out.out)?,
            OfflineCommand::Deactivate(options) => carried::check_place(&options.out)?,
            // Their file says more about what may stand there: they look themselves.
            _ => {}
        },
        Command::Check(options) => transcript::check_options(global, options)?,
        Command::Marketplace(MarketplaceCommand::Download(options)) if !options.plan => {
            kept::usable(&options.to).map_err(|error| {
                let message = format!("--to {}: {error}", options.to.display());
                Problem::new(&code::STATE_UNWRITABLE, message).next("Choose another --to.")
            })?;
        }
        _ => {}
    }
    match keeps(command) {
        Keeps::Nothing => Ok(()),
        Keeps::SignIn => can_keep(&state::directory(global)?),
        Keeps::Journal => usable(&state::directory(global)?),
        Keeps::Stamp => ready(&state::directory(global)?, sources.cloud_id()),
    }
}

/// The names that a command gives: of the registration and of its resource group.
fn new_names(command: &Command) -> (Option<&str>, Option<&str>) {
    match command {
        Command::Register(options) => (options.name.as_deref(), Some(&options.resource_group)),
        Command::Check(options) => (options.name.as_deref(), Some(&options.resource_group)),
        Command::Renew(options) => (options.name.as_deref(), None),
        Command::ChangeSubscription(options) => (options.to_name.as_deref(), options.to_resource_group.as_deref()),
        Command::Move(options) => (None, Some(&options.to_resource_group)),
        Command::Offline(
            OfflineCommand::Register(options) | OfflineCommand::Renew(OfflineRenewCommand::Register(options)),
        ) => (options.name.as_deref(), Some(&options.resource_group)),
        _ => (None, None),
    }
}

fn keeps(command: &Command) -> Keeps {
    let unless = |plan: bool, keeps: Keeps| if plan { Keeps::Nothing } else { keeps };
    match command {
        Command::Login(_) => Keeps::SignIn,
        Command::Adopt(_) => Keeps::Stamp,
        Command::Register(options) => unless(options.plan, Keeps::Stamp),
        Command::Set(options) => unless(options.care.plan, Keeps::Stamp),
        Command::Renew(options) => unless(options.care.plan, Keeps::Stamp),
        Command::ChangeSubscription(options) => unless(options.care.plan, Keeps::Stamp),
        Command::Move(options) => unless(options.care.plan, Keeps::Stamp),
        Command::Repair(options) => unless(options.care.plan, Keeps::Stamp),
        Command::Unregister(options) => unless(options.care.plan, Keeps::Stamp),
        Command::Offline(command) => match command {
            OfflineCommand::Token(options) | OfflineCommand::Renew(OfflineRenewCommand::Start(options)) => {
                unless(options.care.plan, Keeps::Stamp)
            }
            OfflineCommand::Register(options) | OfflineCommand::Renew(OfflineRenewCommand::Register(options)) => {
                unless(options.care.plan, Keeps::Stamp)
            }
            OfflineCommand::Activate(_) | OfflineCommand::Renew(OfflineRenewCommand::Finish(_)) => Keeps::Stamp,
            OfflineCommand::Deactivate(options) => unless(options.care.plan, Keeps::Stamp),
            OfflineCommand::Unregister(options) => unless(options.care.plan, Keeps::Stamp),
            OfflineCommand::Key(_) | OfflineCommand::Inspect(_) => Keeps::Nothing,
        },
        Command::Customer(CustomerCommand::Add(options)) => unless(options.care.plan, Keeps::Stamp),
        Command::Customer(CustomerCommand::Remove(options)) => unless(options.care.plan, Keeps::Stamp),
        Command::Marketplace(MarketplaceCommand::Add(options)) => unless(options.plan, Keeps::Journal),
        Command::Marketplace(MarketplaceCommand::Remove(options)) => unless(options.care.plan, Keeps::Journal),
        Command::Marketplace(MarketplaceCommand::Import(options)) => unless(options.plan, Keeps::Journal),
        Command::Alerts(AlertsCommand::Close(_)) => Keeps::Journal,
        Command::Role(RoleCommand::Create(_) | RoleCommand::Assign(_)) => Keeps::Journal,
        Command::Stamp(StampCommand::HciLicense(_)) => Keeps::Journal,
        Command::Forget(options) => unless(options.care.plan, Keeps::Journal),
        _ => Keeps::Nothing,
    }
}

/// Whether an operation on a stamp can begin here, as far as the stamp is known.
///
/// # Errors
/// It is being worked on, or the state directory can't be written.
pub(crate) fn ready(state_dir: &Path, stamp: Option<Uuid>) -> Result<(), Problem> {
    if let Some(stamp) = stamp {
        StampLock::look(state_dir, stamp)?;
        return usable(state_dir);
    }
    // Who may look and not work is told who works, when it is known whether it is at the same stamp.
    if StampLock::is_any_held(state_dir) { Ok(()) } else { usable(state_dir) }
}

fn usable(state_dir: &Path) -> Result<(), Problem> {
    kept::usable(state_dir).map_err(|error| refused(state_dir, &error))
}

/// Whether a sign-in can be kept.
///
/// # Errors
/// It can't.
pub(crate) fn can_keep(state_dir: &Path) -> Result<(), Problem> {
    kept::usable(state_dir).map_err(|error| {
        let cause = refused(state_dir, &error);
        let message = format!("the sign-in could not be kept: {}", cause.message);
        match cause.next {
            Some(next) => Problem::new(&code::SIGN_IN_NOT_KEPT, message).next(next),
            None => Problem::new(&code::SIGN_IN_NOT_KEPT, message),
        }
    })
}

/// That the state directory can't be written. Where nothing is kept yet another one is a way out; where there are journals and
/// locks it is none.
fn refused(state_dir: &Path, error: &io::Error) -> Problem {
    let absent = state_dir.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if absent && !files::no_descriptors(error) {
        let message = format!("{} can't be made: {error}", state_dir.display());
        return Problem::new(&code::STATE_UNWRITABLE, message)
            .next("Name a directory that stays and can be written, the same on every run: --state-dir DIR (or AZSREG_STATE_DIR).");
    }
    files::problem(state_dir, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        ready(&state, None).unwrap();
        ready(&state, Some(Uuid::nil())).unwrap();
        can_keep(&state).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for state in ["file", "file/state"] {
            let state = dir.path().join(state);
            assert_eq!(ready(&state, None).unwrap_err().code.id, "AZR5003");
            let said = can_keep(&state).unwrap_err();
            assert!(said.code.id == "AZR5025" && said.message.contains("could not be kept"), "{}", said.message);
        }
    }

    #[test]
    fn a_locked_stamp_is_said_where_it_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let held = StampLock::take(dir.path(), Uuid::nil(), "renew", jiff::Timestamp::UNIX_EPOCH).unwrap();
        let said = ready(dir.path(), Some(Uuid::nil())).unwrap_err();
        assert!(said.code.id == "AZR5001" && said.message.contains("renew of"), "{}", said.message);
        ready(dir.path(), Some(Uuid::from_u128(1))).unwrap();
        drop(held);
        ready(dir.path(), Some(Uuid::nil())).unwrap();
    }
}
