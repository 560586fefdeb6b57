//! `azsreg forget`: a stamp that this machine is not to know any more. Azure and the stamp stay as they are.

use azsreg_model::{ExitCode, Problem, code};
use azsreg_operations::FileJournal;
use azsreg_operations::engine::history::History;
use azsreg_operations::engine::lock::StampLock;
use azsreg_operations::ports::Clock as _;
use serde_json::json;
use uuid::Uuid;

use super::confirm;
use super::connect::CLOCK;
use crate::Ended;
use crate::cli::{ForgetOptions, Global};
use crate::view::View;
use crate::watch::Screen;
use crate::{stamps, state};

pub(crate) fn run(global: &Global, options: &ForgetOptions, view: &View) -> Result<ExitCode, Ended> {
    let state_dir = state::directory(global)?;
    let entry = stamps::entry(&state_dir, &options.stamp)?;
    let given: Option<Uuid> = options.stamp.parse().ok();
    let cloud_id = given.or(entry.as_ref().and_then(|way| way.cloud_id));
    let newest = cloud_id.and_then(|id| FileJournal::newest(&state_dir, id));
    let name = entry.and_then(|way| way.name);
    if newest.is_none() && name.is_none() {
        let message = format!("{} knows no stamp {:?}", state_dir.display(), options.stamp);
        let problem = Problem::new(&code::BAD_ARGUMENT, message);
        return Err(problem
            .next("azsreg status --web  shows those that it knows; give the cloud id, or the name in stamps.json.")
            .into());
    }
    let mut gone = Vec::new();
    if let Some(name) = &name {
        gone.push(format!("the entry {name:?} of stamps.json"));
    }
    if let (Some(id), Some((operation, at, ended))) = (cloud_id, &newest) {
        gone.push(format!("the journals of {id}: the newest is of {operation}, {at:.0}"));
        if !ended {
            gone.push(format!("that {operation} has not ended, and is not gone on from any more"));
        }
        let (known, _) = History::look(&state_dir, id);
        let remembered = [("agreement number", known.agreement_number), ("asset tag", known.ms_asset_tag)];
        for (what, number) in remembered.into_iter().filter_map(|(what, one)| Some((what, one?))) {
            gone.push(format!("the {what} {}, which Azure does not show", number.text));
        }
    }
    let document = |outcome: &str, archive: Option<&std::path::Path>| json!({"operation": "forget", "outcome": outcome, "cloud_id": cloud_id, "name": name, "lost": gone, "archive": archive});
    if options.care.plan {
        if view.is_json() {
            view.document(&document("planned", None), ExitCode::ChangesPlanned, &[]);
        } else {
            gone.iter().for_each(|one| view.line(&format!("  would forget  {one}")));
            view.line("Nothing was changed.");
        }
        return Ok(ExitCode::ChangesPlanned);
    }
    let now = CLOCK.now();
    let _held = cloud_id.map(|id| StampLock::take(&state_dir, id, "forget", now)).transpose()?;
    let what = format!("This machine forgets the stamp {}. Azure and the stamp stay as they are.", options.stamp);
    confirm::agree(global, &options.care, &Screen::new(global, 0), &what, &gone)?;
    let archived =
        cloud_id.map(|id| FileJournal::archive(&state_dir, id, now).map_err(|error| error.problem())).transpose()?;
    let archive = archived.flatten();
    if let Some(name) = &name {
        stamps::remove(&state_dir, name, now)?;
    }
    if view.is_json() {
        view.json(&document("done", archive.as_deref()));
        return Ok(ExitCode::Done);
    }
    view.line(&format!("The stamp {} is forgotten here.", options.stamp));
    match &archive {
        Some(archive) => view.line(&format!("Its journals are kept in {}.", archive.display())),
        None if cloud_id.is_none() => {
            view.line("stamps.json did not say its cloud id: journals of it, if there are, are forgotten by azsreg forget CLOUD-ID.");
        }
        None => {}
    }
    Ok(ExitCode::Done)
}
