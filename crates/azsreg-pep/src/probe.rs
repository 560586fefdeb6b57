//! What a transcript asks of an endpoint. Nothing of it changes the stamp.

use std::time::Duration;

use azsreg_model::redact;
use azsreg_operations::ports::PortError;
use azsreg_psrp::messages::Command;

use crate::answered::Answered;
use crate::error::PepError;
use crate::stamp::PrivilegedEndpoint;
use crate::wire::Wire;

impl PrivilegedEndpoint {
    /// Asks a reading cmdlet and gives the form of its answer.
    ///
    /// # Errors
    /// The endpoint could not be asked; a cmdlet that fails is an answer.
    pub async fn ask(&self, cmdlet: &str, arguments: &[(&str, &str)]) -> Result<Answered, PortError> {
        let mut command = Command::new(cmdlet);
        for (name, value) in arguments {
            command = command.with(name, *value);
        }
        match self.call(command).await {
            Ok(result) => Ok(Answered::of("completed", &result.output)),
            Err(PepError::Cmdlet { failure, .. }) => Ok(Answered::of(&redact::of_server(&failure.record.id), &[])),
            Err(error) => Err(error.into()),
        }
    }

    /// How the open connection came about; `None` while none is open.
    pub async fn wire(&self) -> Option<Wire> {
        self.session.lock().await.as_ref().map(crate::session::Session::wire)
    }

    /// Leaves the open connection silent for so long, asks over the same one, and says what came.
    pub async fn after_silence(&self, silence: Duration) -> &'static str {
        let mut slot = self.session.lock().await;
        let Some(session) = slot.as_mut() else { return "no connection was open" };
        tokio::time::sleep(silence).await;
        let asked = session.invoke(Command::new("Get-Command").with("Name", "Get-Command"), &|_| {}).await;
        let (came, over) = match &asked {
            Ok(_) | Err(PepError::Cmdlet { .. }) => ("answered", false),
            Err(PepError::Dropped { .. }) => ("dropped", true),
            Err(PepError::Status(400)) => ("HTTP status 400", true),
            Err(PepError::Status(_)) => ("another HTTP status", true),
            Err(PepError::Silent { .. }) => ("no answer", true),
            Err(_) => ("another failure", true),
        };
        if over {
            *slot = None;
        }
        came
    }
}
