//! Moving registrations between resource groups: asked first, accepted, and done some time later.
//!
//! A `ReadOnly` lock on either group stops a move, a lock on the registration itself does not; role assignments stay behind
//! and are orphaned; between subscriptions only where both are of the same partner (`facts-azure-api.md` sections 8 and 10).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::arm::{Arm, ArmError, group_scope};
use super::roles::is_within;

/// A move that was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Move {
    /// The operation's id.
    pub id: Uuid,
    /// What moves: resource ids.
    pub resources: Vec<String>,
    /// From this subscription and group.
    pub from: (Uuid, String),
    /// To this subscription and group.
    pub to: (Uuid, String),
    /// When it will have ended.
    pub ends: Timestamp,
}

impl Arm {
    /// Whether a move would be accepted.
    ///
    /// # Errors
    /// 404 for what is not there, 400 or 409 for what does not go.
    pub fn validate_move(&self, ids: &[String], from: (Uuid, &str), to: (Uuid, &str)) -> Result<(), ArmError> {
        let source = group_scope(from.0, &self.group(from.0, from.1)?.name);
        if ids.is_empty() {
            return Err(ArmError::new(400, "InvalidRequestContent", "No resources were named to be moved."));
        }
        if let Some(id) = ids.iter().find(|id| !is_within(id, &source)) {
            let message = format!("The resource '{id}' is not in the source resource group.");
            return Err(ArmError::new(400, "ResourceMoveProviderValidationFailed", message));
        }
        for id in ids {
            if self.with_id(id).is_none() {
                return Err(ArmError::new(404, "ResourceNotFound", format!("The Resource '{id}' was not found.")));
            }
        }
        let busy = |subscription: Uuid, group: &str| {
            self.moves
                .iter()
                .any(|m| [&m.from, &m.to].into_iter().any(|(s, g)| *s == subscription && g.eq_ignore_ascii_case(group)))
        };
        if busy(from.0, from.1) || busy(to.0, to.1) {
            let message = "Resources of the resource group are being moved by another operation.";
            return Err(ArmError::new(409, "ResourcesBeingMoved", message));
        }
        if from.0 != to.0 {
            let partner = |id: Uuid| {
                let subscription = self.subscriptions.get(&id)?;
                subscription.quota_id.starts_with("CSP").then(|| subscription.partner.clone())?
            };
            if partner(from.0).is_none() || partner(from.0) != partner(to.0) {
                let message = "Moving 'Microsoft.AzureStack/registrations' between subscriptions is only supported when both subscriptions resolve to the same Partner ID.";
                return Err(ArmError::new(409, "ResourceMoveNotSupported", message));
            }
            self.provider_ready(to.0)?;
        }
        let target = self.group(to.0, to.1)?.name.clone();
        if to.0 == from.0 && is_within(&group_scope(to.0, &target), &source) {
            let message = "The source and the target resource group are the same.";
            return Err(ArmError::new(400, "ResourceMoveProviderValidationFailed", message));
        }
        self.writable(&source)?;
        self.writable(&group_scope(to.0, &target))?;
        for id in ids {
            let name = id.rsplit('/').next().unwrap_or_default();
            if self.at(to.0, &target, name).is_some() {
                let message = format!("The target resource group has a registration '{name}' already.");
                return Err(ArmError::new(409, "ResourceMoveProviderValidationFailed", message));
            }
        }
        Ok(())
    }

    /// Accepts a move that takes so long.
    ///
    /// # Errors
    /// As [`validate_move`](Self::validate_move).
    pub fn begin_move(
        &mut self,
        id: Uuid,
        now: Timestamp,
        takes: SignedDuration,
        ids: Vec<String>,
        from: (Uuid, &str),
        to: (Uuid, &str),
    ) -> Result<(), ArmError> {
        self.validate_move(&ids, from, to)?;
        let to = (to.0, self.group(to.0, to.1)?.name.clone());
        self.moves.push(Move { id, resources: ids, from: (from.0, from.1.to_owned()), to, ends: now + takes });
        self.settle_moves(now);
        Ok(())
    }

    /// Ends what has run its time.
    pub fn settle_moves(&mut self, now: Timestamp) {
        let (over, going): (Vec<_>, Vec<_>) = std::mem::take(&mut self.moves).into_iter().partition(|m| m.ends <= now);
        self.moves = going;
        for ended in over {
            for id in &ended.resources {
                let Some(at) = self.registrations.iter().position(|r| r.id().eq_ignore_ascii_case(id)) else {
                    continue;
                };
                let old = self.registrations[at].id();
                self.registrations[at].subscription = ended.to.0;
                self.registrations[at].group.clone_from(&ended.to.1);
                let new = self.registrations[at].id();
                for customer in self.customers.iter_mut().filter(|c| c.registration.eq_ignore_ascii_case(&old)) {
                    customer.registration.clone_from(&new);
                }
                for lock in self.locks.iter_mut().filter(|lock| lock.scope.eq_ignore_ascii_case(&old)) {
                    lock.scope.clone_from(&new);
                }
                self.moved(now, &old, &new);
            }
        }
    }

    /// Whether a move goes on.
    #[must_use]
    pub fn is_moving(&self, id: Uuid) -> bool {
        self.moves.iter().any(|m| m.id == id)
    }
}
