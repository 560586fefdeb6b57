//! Registration tokens and activation keys on their way: what contradicts is refused, what is whole and can't be read is passed
//! on and said, or refused where the operator wants that.

use azsreg_model::{
    ActivationClaims, ActivationKey, Problem, RegistrationId, RegistrationToken, TokenContents, UnknownForm, code,
};
use jiff::Timestamp;
use uuid::Uuid;

/// What is found of a token or a key: what it says, and what the operator should know of it.
pub(crate) type Found<T> = (T, Option<Problem>);

/// Looks at a token of a stamp.
pub(crate) fn token(token: &RegistrationToken, strict: bool) -> Result<Found<TokenContents>, Problem> {
    let contents = token.decode().map_err(|error| Problem::new(&code::MALFORMED_TOKEN, error.to_string()))?;
    let said = passed_on("the registration token", contents.unknown.as_ref(), strict)?;
    Ok((contents, said))
}

/// Looks at a key for a stamp and a registration.
pub(crate) fn key(
    key: &ActivationKey,
    (cloud_id, id): (Uuid, &RegistrationId),
    now: Timestamp,
    strict: bool,
) -> Result<Found<ActivationClaims>, Problem> {
    let checked = key.check(cloud_id, id, now);
    let claims = checked.map_err(|error| Problem::new(&code::MALFORMED_KEY, error.to_string()))?;
    let said = passed_on("the activation key", claims.unknown.as_ref(), strict)?;
    Ok((claims, said))
}

fn passed_on(what: &str, unknown: Option<&UnknownForm>, strict: bool) -> Result<Option<Problem>, Problem> {
    let Some(unknown) = unknown else { return Ok(None) };
    let message = format!("{what} is of a form that azsreg does not know: {unknown}");
    if strict {
        let next = "Leave --strict out, and it is passed on as it is: Azure and the stamp judge it.";
        return Err(Problem::new(&code::FORM_UNKNOWN, message).next(next));
    }
    Ok(Some(Problem::new(&code::FORM_UNKNOWN, format!("{message}; it is passed on as it is"))))
}
