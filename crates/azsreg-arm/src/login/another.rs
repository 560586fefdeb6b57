//! A token that was not taken: another one in its place, of the directory alone or of a person.

use azsreg_model::redact::of_server;
use azsreg_model::refusals::{aadsts_number, aadsts_sentence};
use azsreg_model::{Problem, Signed, claims_problem, code};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Identity, SignIn, Token, name_of, put};
use crate::challenge::{Claims, Wanted};
use crate::error::ArmError;
use crate::http::host_of;

/// The other tokens that a call has been given: each way to one is gone once.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    newer: bool,
    claims: bool,
    person: bool,
}

impl Tries {
    /// Whether a newer token was given than the first.
    pub(crate) fn newer(&self) -> bool {
        self.newer
    }
}

impl Identity<'_> {
    /// Another token in place of one that was not taken, as the refusal asks for; `None` where there is no other way to one.
    ///
    /// # Errors
    /// The directory refuses, or can't be asked; what is asked for needs a person, and none can be asked, or gave it before.
    pub(crate) async fn another(
        &self,
        audience: &str,
        refused: &SecretString,
        wanted: &Wanted,
        tries: &mut Tries,
    ) -> Result<Option<SecretString>, ArmError> {
        let mut tokens = self.tokens.lock().await;
        let newer = |token: &&Token| token.text.expose_secret() != refused.expose_secret();
        if let Some(token) = tokens.iter().filter(|token| token.audience == audience).find(newer) {
            // A call beside this one was given it.
            return Ok(Some(token.text.clone()));
        }
        let token = match wanted {
            Wanted::Newer if tries.newer || !self.draws_alone().await => return Ok(None),
            Wanted::Newer => {
                tries.newer = true;
                self.draw(audience, None).await?
            }
            Wanted::Claims(claims) => self.with_claims(audience, claims, tries).await?,
        };
        Ok(Some(put(&mut tokens, token)))
    }

    /// A token with claims: of what is known first, then of a person.
    async fn with_claims(&self, audience: &str, claims: &Claims, tries: &mut Tries) -> Result<Token, ArmError> {
        let mut needed = claims_problem(&host_of(&self.place.endpoint), &claims.words(), self.signed());
        if self.is_adfs() {
            let cause = "The sign-in is AD FS's, which knows no such claims.";
            let next =
                "Find out what answers at this address, and why it asks; then run the same command again: it resumes.";
            return Err(ArmError::ClaimsNeeded(Box::new(needed.cause(cause).next(next))));
        }
        if self.draws_alone().await && !std::mem::replace(&mut tries.claims, true) {
            match self.draw(audience, Some(claims)).await {
                Err(ArmError::SignIn { error, description, .. }) if wants_person(&error, &description) => {
                    needed = needed.detail(aadsts_sentence(&description));
                }
                other => return other,
            }
        }
        // What is only good to know is not worth a second factor.
        if audience != self.place.audience {
            return Err(ArmError::ClaimsNeeded(Box::new(needed)));
        }
        // The next `azsreg login` asks for it, if the person does not give it now.
        if let Some(account) = self.user.lock().await.as_mut() {
            account.claims = Some(claims.clone());
        }
        let mut asked = self.asked.lock().await;
        let was_asked = !matches!(self.sign_in, SignIn::Cached(_));
        let may_ask = self.is_user() && self.prompt.may_ask(was_asked);
        if !may_ask || asked.contains(claims) || std::mem::replace(&mut tries.person, true) {
            return Err(ArmError::ClaimsNeeded(Box::new(needed)));
        }
        asked.push(claims.clone());
        let who = self.user.lock().await.as_ref().map(|account| account.user.clone()).unwrap_or_default();
        let who = if who.is_empty() { String::new() } else { format!(" as {who}") };
        self.prompt.again(&format!("{}: sign in again{who}.", needed.message));
        let mut user = self.user.lock().await;
        let answer = self.ask(audience, Some(claims), user.as_ref()).await?;
        let before = user.as_ref().map(|account| account.user.as_str()).filter(|name| !name.is_empty());
        if let (Some(before), Some(name)) = (before, name_of(&answer))
            && !before.eq_ignore_ascii_case(&name)
        {
            let message = format!("{} signed in; {before} was asked to", of_server(&name));
            return Err(Problem::new(&code::ANOTHER_ACCOUNT, message).into());
        }
        self.remember(&answer, &mut user, None);
        self.take(audience, &answer)
    }

    /// Whether a token can be drawn without a person.
    async fn draws_alone(&self) -> bool {
        !self.is_user() || self.user.lock().await.is_some()
    }

    /// Who is asked for more than the sign-in has.
    fn signed(&self) -> Signed {
        match (self.is_user(), self.operator) {
            (false, _) => Signed::Application,
            (true, true) => Signed::Operator,
            (true, false) => Signed::Person,
        }
    }
}

/// Whether a directory that refuses a refresh token may give one to the person. What a policy blocks it gives to neither.
fn wants_person(error: &str, description: &str) -> bool {
    let blocked = matches!(aadsts_number(description), Some(53_000..=53_003));
    ["interaction_required", "login_required", "invalid_grant"].contains(&error) && !blocked
}
