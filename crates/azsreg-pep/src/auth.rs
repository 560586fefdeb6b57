//! Signing in to WinRM: NTLM, raw or in SPNEGO, through `sspi`.

use std::fmt;
use std::str::FromStr;

use azsreg_psrp::multipart::Sealed;
use secrecy::{ExposeSecret, SecretString};
use sspi::ntlm::NtlmConfig;
use sspi::{
    AuthIdentity, BufferType, ClientRequestFlags, CredentialUse, DataRepresentation, EncryptionFlags, Negotiate,
    NegotiateConfig, Ntlm, SecurityBuffer, SecurityBufferRef, SecurityStatus, Sspi, SspiImpl, Username,
};

use crate::error::PepError;

/// Who signs in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `DOMAIN\user` or `user@domain`.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mechanism {
    /// SPNEGO, with NTLM inside.
    #[default]
    Negotiate,
    /// NTLM without a wrapper.
    Ntlm,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negotiate => "negotiate",
            Self::Ntlm => "ntlm",
        })
    }
}

impl FromStr for Mechanism {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "negotiate" => Ok(Self::Negotiate),
            "ntlm" => Ok(Self::Ntlm),
            _ => Err("expected negotiate or ntlm"),
        }
    }
}

/// The library's two packages under one roof.
enum Package {
    Negotiate(Box<Negotiate>),
    Ntlm(Box<Ntlm>),
}

macro_rules! with {
    ($package:expr, $name:ident => $body:expr) => {
        match $package {
            Package::Negotiate($name) => $body,
            Package::Ntlm($name) => $body,
        }
    };
}

/// A sign-in in progress, then the session that seals.
pub(crate) struct Security {
    package: Package,
    identity: AuthIdentity,
    target: String,
    done: bool,
}

impl Security {
    pub(crate) fn new(mechanism: Mechanism, credentials: &Credentials, host: &str) -> Result<Self, PepError> {
        let machine = "AZSREG".to_owned();
        let package = match mechanism {
            Mechanism::Ntlm => Package::Ntlm(Box::new(Ntlm::with_config(NtlmConfig::new(machine)))),
            Mechanism::Negotiate => {
                let ntlm = Box::new(NtlmConfig::new(machine.clone()));
                let config = NegotiateConfig::new(ntlm, Some("ntlm,!kerberos,!pku2u".into()), machine);
                Package::Negotiate(Box::new(Negotiate::new_client(config).map_err(PepError::Security)?))
            }
        };
        let username = Username::parse(&credentials.user).map_err(|error| {
            PepError::Security(sspi::Error::new(sspi::ErrorKind::InvalidParameter, error.to_string()))
        })?;
        let password = credentials.password.expose_secret().to_owned().into();
        Ok(Self { package, identity: AuthIdentity { username, password }, target: format!("HTTP/{host}"), done: false })
    }

    /// The next token for the server's, and whether the session is then complete on this side.
    pub(crate) fn step(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, PepError> {
        let identity = self.identity.clone();
        let target = self.target.clone();
        let (status, token) =
            with!(&mut self.package, p => leg(p.as_mut(), &identity, &target, token)).map_err(PepError::Security)?;
        self.done = matches!(status, SecurityStatus::Ok | SecurityStatus::CompleteNeeded);
        Ok((!token.is_empty()).then_some(token))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<Sealed, PepError> {
        let mut signature = vec![0; 16];
        let mut data = plain.to_vec();
        let mut buffers = [SecurityBufferRef::token_buf(&mut signature), SecurityBufferRef::data_buf(&mut data)];
        with!(&mut self.package, p => p.encrypt_message(EncryptionFlags::empty(), &mut buffers))
            .map_err(PepError::Security)?;
        let (signature, ciphertext) = (buffers[0].data().to_vec(), buffers[1].data().to_vec());
        Ok(Sealed { length: plain.len(), signature, ciphertext })
    }

    pub(crate) fn unseal(&mut self, sealed: Sealed) -> Result<Vec<u8>, PepError> {
        let Sealed { length, mut signature, mut ciphertext } = sealed;
        let mut buffers = [SecurityBufferRef::token_buf(&mut signature), SecurityBufferRef::data_buf(&mut ciphertext)];
        with!(&mut self.package, p => p.decrypt_message(&mut buffers)).map_err(PepError::Security)?;
        let plain = buffers[1].data().to_vec();
        if plain.len() != length {
            return Err(azsreg_psrp::DecodeError::Multipart("Length does not match").into());
        }
        Ok(plain)
    }
}

fn leg<P>(
    package: &mut P,
    identity: &AuthIdentity,
    target: &str,
    token: &[u8],
) -> sspi::Result<(SecurityStatus, Vec<u8>)>
where
    P: SspiImpl + Sspi,
    P: Acquire,
{
    package.leg(identity, target, token)
}

/// The two packages take credentials of different types.
trait Acquire {
    fn leg(&mut self, identity: &AuthIdentity, target: &str, token: &[u8]) -> sspi::Result<(SecurityStatus, Vec<u8>)>;
}

const FLAGS: ClientRequestFlags = ClientRequestFlags::CONFIDENTIALITY
    .union(ClientRequestFlags::INTEGRITY)
    .union(ClientRequestFlags::REPLAY_DETECT)
    .union(ClientRequestFlags::SEQUENCE_DETECT)
    .union(ClientRequestFlags::ALLOCATE_MEMORY);

macro_rules! acquire {
    ($type:ty, $identity:ident => $credentials:expr) => {
        impl Acquire for $type {
            fn leg(
                &mut self,
                identity: &AuthIdentity,
                target: &str,
                token: &[u8],
            ) -> sspi::Result<(SecurityStatus, Vec<u8>)> {
                let $identity = identity;
                let mut acquired = self
                    .acquire_credentials_handle()
                    .with_credential_use(CredentialUse::Outbound)
                    .with_auth_data($credentials)
                    .execute(self)?;
                let mut input = [SecurityBuffer::new(token.to_vec(), BufferType::Token)];
                let mut output = [SecurityBuffer::new(Vec::new(), BufferType::Token)];
                let mut builder = self
                    .initialize_security_context()
                    .with_credentials_handle(&mut acquired.credentials_handle)
                    .with_context_requirements(FLAGS)
                    .with_target_data_representation(DataRepresentation::Native)
                    .with_target_name(target)
                    .with_input(&mut input)
                    .with_output(&mut output);
                let status = self.initialize_security_context_impl(&mut builder)?.resolve_to_result()?.status;
                if matches!(status, SecurityStatus::CompleteAndContinue | SecurityStatus::CompleteNeeded) {
                    self.complete_auth_token(&mut output)?;
                }
                Ok((status, std::mem::take(&mut output[0].buffer)))
            }
        }
    };
}

acquire!(Ntlm, identity => identity);
acquire!(Negotiate, identity => &sspi::Credentials::AuthIdentity(identity.clone()));
