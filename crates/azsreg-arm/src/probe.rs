//! What a transcript asks of Azure's Resource Manager and of the stamp's own. Every call is a GET.

use azsreg_model::StampInformation;
use azsreg_operations::ports::PortError;
use serde_json::Value;
use uuid::Uuid;

use crate::azure::AzurePort;
use crate::error::ArmError;
use crate::http::Answer;
use crate::manager::Manager;
use crate::records::{BRIDGE, RecordsPort};

/// What Resource Manager's own types are asked with; a stamp's knows the older ones alone.
const RESOURCES: &str = "2021-04-01";
const RESOURCES_OF_A_STAMP: &str = "2016-09-01";
const REGISTRATIONS: &str = "2017-06-01";

/// A question, and what came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What was asked for.
    pub what: &'static str,
    /// The status and the body, a refusal too.
    pub came: Result<(u16, Value), Box<PortError>>,
}

impl Asked {
    fn of(what: &'static str, came: Result<Answer, ArmError>, failed: impl FnOnce(ArmError) -> PortError) -> Self {
        let came = came.map(|answer| (answer.status.as_u16(), answer.body));
        Self { what, came: came.map_err(|error| Box::new(failed(error))) }
    }
}

async fn all(
    manager: &Manager<'_>,
    questions: &[(&'static str, &str, &str)],
    failed: impl Fn(ArmError) -> PortError,
) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (what, path, version) in questions {
        asked.push(Asked::of(what, manager.answer(path, version).await, &failed));
    }
    asked
}

impl RecordsPort<'_> {
    /// Asks the stamp's Resource Manager. Where no account can sign in there, that is what came.
    pub async fn probe(&self, stamp: &StampInformation) -> Vec<Asked> {
        let (manager, record) = match self.at(stamp).await {
            Ok(at) => at,
            Err(error) => return vec![Asked::of("stamp activation", Err(error), |error| self.failed(error))],
        };
        let list = record.rsplit_once('/').map_or(record.as_str(), |(list, _)| list);
        let subscription = record.split("/resourceGroups/").next().unwrap_or_default();
        let questions = [
            ("stamp metadata", "/metadata/endpoints", "2015-01-01"),
            ("stamp activation", record.as_str(), BRIDGE),
            ("stamp activations", list, BRIDGE),
            ("stamp downloaded products", &format!("{record}/downloadedProducts"), BRIDGE),
            ("stamp provider", &format!("{subscription}/providers/Microsoft.AzureBridge.Admin"), RESOURCES_OF_A_STAMP),
        ];
        all(&manager, &questions, |error| self.failed(error)).await
    }
}

impl AzurePort<'_> {
    /// Asks Azure, about the subscription that shall pay.
    pub async fn probe(&self, subscription: Uuid, resource_group: &str) -> Vec<Asked> {
        let scope = format!("/subscriptions/{subscription}");
        let provider = format!("{scope}/providers/Microsoft.AzureStack");
        let absent = format!(
            "{scope}/resourceGroups/{resource_group}/providers/Microsoft.AzureStack/registrations/azsreg-{}",
            Uuid::new_v4()
        );
        let questions = [
            ("azure metadata", "/metadata/endpoints", "2022-09-01"),
            ("azure provider", provider.as_str(), RESOURCES),
            ("azure registrations", &format!("{provider}/registrations"), REGISTRATIONS),
            ("azure registration that is not there", &absent, REGISTRATIONS),
        ];
        all(self.manager(), &questions, PortError::from).await
    }
}
