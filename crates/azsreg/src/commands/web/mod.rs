//! `azsreg status --web`: the stamps that this machine knows, as a page in the operator's browser. It only looks, and keeps
//! no credential: each time a stamp is asked, they are read again from where they are.

mod machine;
mod serve;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use azsreg_model::{ExitCode, Problem, code};
use azsreg_portal::Forms;
use azsreg_portal::fleet::{Fleet as _, FleetPages};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;
use uuid::Uuid;

use crate::Ended;
use crate::advice::Advice;
use crate::cli::{Global, Output, SecretArgument, StatusOptions};
use crate::interrupt;
use crate::secrets::Sources;
use crate::stamps::ways;
use crate::state;
use crate::view::View;
use machine::Machine;

/// So many stamps are asked at a time.
const AT_ONCE: usize = 8;
/// So long sessions have to close at the end.
const CLOSING: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    global: &Global,
    options: &StatusOptions,
    view: &View,
    sources: &Sources,
) -> Result<ExitCode, Ended> {
    if global.output == Output::Prometheus {
        let problem = Problem::new(&code::BAD_ARGUMENT, "-o prometheus is not for --web");
        return Err(problem.next("Leave one of them out.").into());
    }
    if let Some(name) = &global.at {
        let message = format!("--at {name} is one stamp, --web shows all");
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Leave one of them out.").into());
    }
    let sides = &options.sides;
    let from_stdin = |secret: &Option<SecretArgument>| secret.as_ref().is_some_and(|secret| secret.0 == "-");
    let secrets = [
        &sides.pep.pep_password,
        &sides.pep.transcript_password,
        &sides.stamp_sign_in.stamp_client_secret,
        &sides.sign_in.client_secret,
    ];
    if secrets.into_iter().any(from_stdin) {
        let message = "--web reads secrets each time it asks, and standard input can be read once only";
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Give @FILE in place of -.").into());
    }
    // A page's button must not make a question appear, in the terminal or in another window.
    if ["device_code", "browser", "stamp_device_code"].iter().any(|id| sources.on_command_line(id)) {
        let message = "--web does not ask you to sign in";
        return Err(Problem::new(&code::BAD_ARGUMENT, message).next("Sign in before, with azsreg login.").into());
    }
    let mut options = options.clone();
    (options.sides.sign_in.device_code, options.sides.sign_in.browser) = (false, false);
    options.sides.stamp_sign_in.stamp_device_code = false;
    let quiet = Global { non_interactive: true, no_progress: true, ..global.clone() };
    let state_dir = state::directory(global)?;
    let ways = ways(&state_dir, &options.sides)?;
    let (wanted, mut asked) = unbounded_channel();
    let opened_in = state_dir.clone();
    let machine = Machine::new(state_dir, ways, Advice::of(sources), wanted);
    let io = |error| Problem::new(&code::STATE_UNWRITABLE, format!("no port on loopback: {error}"));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(io)?;
    let host = listener.local_addr().map_err(io)?.to_string();
    let secret = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let once = secret();
    let link = format!("http://{host}/?once={once}");
    let pages = FleetPages::new(Forms::new(secret()), &secret(), secret(), once);
    if view.is_json() {
        view.begun(&json!({ "link": link }));
    } else {
        view.line(&format!("Open this link; it is good once: {link}"));
        View::note("The page only looks. ^C ends it.");
    }
    let opened = if global.non_interactive { None } else { open(&opened_in, &link) };
    if !global.non_interactive && opened.is_none() {
        View::note("No browser could be opened here.");
    }
    machine.ask(None);
    let queue = futures_util::stream::poll_fn(|context| asked.poll_recv(context));
    let asker = queue.for_each_concurrent(AT_ONCE, |id| machine.ask_one(&quiet, &options, sources, id));
    let mut asker = std::pin::pin!(asker);
    // The signal is heard first: nobody is asked any more after it.
    tokio::select! {
        biased;
        () = interrupt::signal() => {}
        () = &mut asker => {}
        () = serve::serve(listener, &pages, &machine) => {}
    }
    // Whoever is asked at this moment ends on the same signal, and closes the session first.
    machine.end();
    let closed = async {
        while machine.is_asking() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = asker => {}
        () = closed => {}
        () = tokio::time::sleep(CLOSING) => {}
    }
    Ok(ExitCode::Done)
}

/// Opens a file that leads to the link: a browser's argument list is for everybody on the machine to read, the file is not.
fn open(state_dir: &Path, link: &str) -> Option<tempfile::NamedTempFile> {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0;url={link}\">\
         <title>azsreg</title><a href=\"{link}\">azsreg status --web</a></html>"
    );
    azsreg_operations::files::kept::make_directory(state_dir).ok()?;
    let mut file = tempfile::Builder::new().prefix("web-").suffix(".html").tempfile_in(state_dir).ok()?;
    file.write_all(page.as_bytes()).ok()?;
    azsreg_arm::open_in_browser(&file.path().display().to_string()).ok()?;
    Some(file)
}
