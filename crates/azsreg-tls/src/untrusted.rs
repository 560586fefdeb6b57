//! Why a certificate is not trusted, with its names and dates.

use std::error::Error;
use std::net::IpAddr;
use std::path::Path;

use azsreg_model::redact::of_server;
use azsreg_model::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

use crate::verifier::named_places;

/// A certificate that was shown, and is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the certificate is not trusted")]
pub struct Untrusted {
    why: Why,
    /// By this machine's clock.
    at: Timestamp,
    /// Whether authorities were given besides the system's.
    given: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// Its dates, and whose it is where it is not the server's own.
    Dates {
        from: Timestamp,
        until: Timestamp,
        authority: Option<String>,
    },
    /// The name that was asked for, and those that it has.
    OtherName {
        asked: String,
        has: Vec<String>,
    },
    UnknownIssuer {
        issuer: String,
    },
    SelfSigned,
    /// An authority of this name is known, and has not signed it.
    OtherKey {
        issuer: String,
    },
    /// The certificate of an authority, in place of a server's.
    Authority {
        name: String,
    },
    /// Not for servers.
    Purpose,
    Revoked,
    Unusable,
}

/// How many names are told.
const NAMES: usize = 6;

impl Untrusted {
    /// What the verifier's refusal means for what was shown, the server's certificate first.
    pub(crate) fn of<'c>(
        error: &CertificateError,
        shown: impl Iterator<Item = &'c CertificateDer<'c>>,
        asked: &ServerName<'_>,
        now: UnixTime,
        given: bool,
    ) -> Self {
        let at = i64::try_from(now.as_secs()).ok().and_then(|now| Timestamp::from_second(now).ok());
        let at = at.unwrap_or_else(Timestamp::now);
        let shown: Vec<X509Certificate<'_>> =
            shown.map_while(|der| X509Certificate::from_der(der).ok()).map(|(_, parsed)| parsed).collect();
        let why = shown.first().map_or(Why::Unusable, |own| why(error, own, &shown, asked, at));
        Self { why, at, given }
    }

    /// As the operator sees it. `ahead` is whose clock is known, and how far it is ahead of this machine's.
    #[must_use]
    pub fn problem(&self, entry: &'static Code, host: &str, ahead: Option<(&str, SignedDuration)>) -> Problem {
        let of = format!("the certificate of {host}");
        let new = |message: String| Problem::new(entry, of_server(&message).into_owned());
        match &self.why {
            Why::Dates { from, until, authority } => self.dates(new, &of, (*from, *until), authority.as_deref(), ahead),
            Why::OtherName { asked, has } => {
                let has = if has.is_empty() { "no name".to_owned() } else { listed(has) };
                new(format!("{of} is for another name: {asked} was asked for, it is for {has}"))
                    .cause("The address names the server otherwise than its certificate does, or another server answers there.")
                    .next("Use a name that the certificate has, if it leads to the same server; or have the server given a certificate with this name.")
            }
            Why::UnknownIssuer { issuer } => {
                let mut problem = new(format!("{of} is signed by an authority that this machine does not know: {issuer}"));
                for (name, place) in named_places().iter().filter(|(_, place)| !Path::new(place).exists()) {
                    problem = problem.detail(format!("{name}={place} is not there: the system's authorities are missing."));
                }
                if self.given {
                    problem
                        .cause("Neither the system nor the file of --ca-file has this authority's certificate.")
                        .next("If you trust this authority, add its certificate to the file of --ca-file, then run the same command again.")
                } else {
                    problem
                        .cause("The system does not have this authority's certificate, and no --ca-file is given. Who the authority is tells whose server answers.")
                        .next("If you trust this authority, give its certificate with --ca-file FILE, then run the same command again.")
                }
            }
            Why::SelfSigned => {
                let problem = new(format!("{of} is signed by no authority but by itself"))
                    .cause("Such a certificate is trusted only where it was given beforehand.");
                problem.next(if self.given {
                    "If it is the right server's, add this certificate to the file of --ca-file, then run the same command again."
                } else {
                    "If it is the right server's, give this certificate with --ca-file FILE, then run the same command again."
                })
            }
            Why::OtherKey { issuer } => {
                new(format!("{of} names {issuer} as its authority, and was not signed with the key that is known of it"))
                    .cause("The authority was made anew under its old name since its certificate was given, or the certificate is a forgery.")
                    .next(if self.given {
                        "Get the authority's certificate anew, from whoever runs it, and put it into the file of --ca-file."
                    } else {
                        "Get the authority's certificate anew, from whoever runs it, and give it with --ca-file FILE."
                    })
            }
            Why::Authority { name } => {
                new(format!("{of} is not a server's but an authority's own ({name})"))
                    .cause("The server uses the certificate of an authority (CA:TRUE) as its own, which is never taken.")
                    .next("Have the server given a certificate of its own, signed by that authority.")
            }
            Why::Purpose => new(format!("{of} is not made for servers"))
                .cause("Its extended key usage does not name server authentication.")
                .next("Have the server given a certificate for server authentication."),
            Why::Revoked => new(format!("{of} was revoked"))
                .cause("Its authority has withdrawn it: its key may be in other hands.")
                .next("Ask whoever runs the server; have it given a new certificate."),
            Why::Unusable => new(format!("{of} can't be read, or is made in a way that is not taken"))
                .cause("It is damaged, or uses an algorithm or an extension that is not taken of a server.")
                .next("Look at the certificate there, for example with  openssl s_client -connect HOST:PORT"),
        }
    }

    fn dates(
        &self,
        new: impl Fn(String) -> Problem,
        of: &str,
        (from, until): (Timestamp, Timestamp),
        authority: Option<&str>,
        ahead: Option<(&str, SignedDuration)>,
    ) -> Problem {
        let early = self.at < from;
        let what = if early { "is not valid yet" } else { "has expired" };
        let of = authority.map_or_else(|| of.to_owned(), |name| format!("{of} hangs on an authority's ({name}) that"));
        let problem = new(format!("{of} {what}: it is valid from {} to {}", told(from), told(until)));
        let clocks = match ahead {
            None => format!("This machine's clock says {}.", told(self.at)),
            Some((whose, ahead)) => {
                let theirs = self.at.checked_add(ahead).unwrap_or(self.at);
                format!("This machine's clock says {}, {whose} {}.", told(self.at), told(theirs))
            }
        };
        let theirs = ahead.and_then(|(_, ahead)| self.at.checked_add(ahead).ok());
        let problem = match theirs {
            Some(theirs) if from <= theirs && theirs <= until => problem
                .cause("By the other clock it is valid: this machine's clock is wrong.")
                .next("Set the clock of this machine, then run the same command again."),
            Some(_) => problem.cause(format!("By both clocks it {what}.")).next(renew(early)),
            None if early => problem
                .cause("This machine's clock is slow, or the server was given its certificate too early.")
                .next("Compare this machine's clock with a right one. If it is right, have whoever runs the server look at its certificate."),
            None => problem
                .cause("The certificate was not renewed, or this machine's clock is fast.")
                .next("Compare this machine's clock with a right one. If it is right, have whoever runs the server renew its certificate."),
        };
        problem.detail(clocks)
    }
}

fn renew(early: bool) -> &'static str {
    if early {
        "Have whoever runs the server look at its certificate, then run the same command again."
    } else {
        "Have whoever runs the server renew its certificate, then run the same command again."
    }
}

/// The words for a certificate that was refused, wherever in an error they are.
#[must_use]
pub fn untrusted(error: &(dyn Error + 'static)) -> Option<Untrusted> {
    let rustls::Error::InvalidCertificate(why) = of_tls(error)? else { return None };
    let own = match why {
        CertificateError::Other(other) => other.0.downcast_ref::<Untrusted>().cloned(),
        _ => None,
    };
    Some(own.unwrap_or(Untrusted { why: Why::Unusable, at: Timestamp::now(), given: false }))
}

/// The error of TLS within an error. What an I/O error wraps is not its source: it has to be asked for.
pub(crate) fn of_tls<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let wrapped = wrapped.map(|inner| inner as &(dyn Error + 'static));
    wrapped.and_then(of_tls).or_else(|| error.source().and_then(of_tls))
}

fn why(
    error: &CertificateError,
    own: &X509Certificate<'_>,
    shown: &[X509Certificate<'_>],
    asked: &ServerName<'_>,
    at: Timestamp,
) -> Why {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            let out = shown.iter().position(|one| dates(one).is_some_and(|(from, until)| at < from || until < at));
            let of = out.and_then(|index| Some((index, dates(shown.get(index)?)?)));
            of.map_or(Why::Unusable, |(index, (from, until))| Why::Dates {
                from,
                until,
                authority: (index > 0).then(|| named(shown[index].subject())),
            })
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Why::OtherName { asked: asked.to_str().into_owned(), has: names(own) }
        }
        CertificateError::UnknownIssuer if own.is_ca() => Why::Authority { name: named(own.subject()) },
        CertificateError::UnknownIssuer if own.issuer().as_raw() == own.subject().as_raw() => Why::SelfSigned,
        // The last of the chain says who should be known.
        CertificateError::UnknownIssuer => Why::UnknownIssuer { issuer: named(shown.last().unwrap_or(own).issuer()) },
        CertificateError::BadSignature => Why::OtherKey { issuer: named(shown.last().unwrap_or(own).issuer()) },
        CertificateError::Revoked => Why::Revoked,
        _ if own.is_ca() => Why::Authority { name: named(own.subject()) },
        _ => match own.extended_key_usage() {
            Ok(Some(usage)) if !usage.value.server_auth && !usage.value.any => Why::Purpose,
            _ => Why::Unusable,
        },
    }
}

fn dates(certificate: &X509Certificate<'_>) -> Option<(Timestamp, Timestamp)> {
    let validity = certificate.validity();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

/// The names that a certificate is for.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let found = certificate.subject_alternative_name().ok().flatten();
    let found = found.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let told = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(short(name)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    };
    found.iter().filter_map(told).collect()
}

/// A name of an authority: all of it, for who looks for it in a list.
fn named(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.trim().is_empty() { "one without a name".into() } else { short(&text) }
}

/// What the other side wrote, no longer than a line or two and without what a terminal would obey.
fn short(text: &str) -> String {
    let clean: String = text.chars().take(160).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() > 160 { format!("{clean}...") } else { clean }
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES);
    let told = names[..names.len() - more].join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

/// Such as `3 May 2026, 14:05 UTC`.
fn told(at: Timestamp) -> String {
    at.strftime("%-d %B %Y, %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Authorities, client_config};
    use azsreg_model::code;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::{ClientConnection, ServerConfig, ServerConnection};
    use rustls_pki_types::PrivateKeyDer;

    /// An authority, whose certificates are good for a hundred years.
    struct Made {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(name: &str) -> Made {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Made { pem, issuer: Issuer::new(params, key) }
    }

    fn leaf(of: &Made, change: impl FnOnce(&mut CertificateParams)) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["stamp.example".to_owned()]).unwrap();
        change(&mut params);
        (vec![params.signed_by(&key, &of.issuer).unwrap().der().clone()], key)
    }

    /// What a client with this file says of a server with this certificate.
    fn refused(file: Option<&str>, (chain, key): (Vec<CertificateDer<'static>>, KeyPair)) -> Untrusted {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let file = file.map(|pem| Authorities::read(pem.as_bytes()).unwrap()).unwrap_or_default();
        let config = client_config(&file).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), "stamp.example".try_into().unwrap()).unwrap();
        for _ in 0..4 {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            let mut unread = &there[..];
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
            }
            let _ = server.process_new_packets();
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            let mut unread = &back[..];
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
            }
            if let Err(error) = client.process_new_packets() {
                return untrusted(&std::io::Error::other(error)).expect("it is a certificate that is refused");
            }
        }
        panic!("the certificate was taken")
    }

    fn said(untrusted: &Untrusted, ahead: Option<(&str, SignedDuration)>) -> String {
        let problem = untrusted.problem(&code::PEP_CERTIFICATE, "stamp.example:5986", ahead);
        format!("{}\n{}\n{}\n{}", problem.message, problem.details.join("\n"), problem.why(), problem.then())
    }

    #[test]
    fn each_cause_has_its_own_words() {
        let (ours, theirs) = (authority("Contoso Root"), authority("Proxy Root"));
        let given = Some(ours.pem.as_str());
        for (name, untrusted, words) in [
            (
                "expired",
                refused(
                    given,
                    leaf(&ours, |params| {
                        params.not_before = date_time_ymd(2020, 1, 1);
                        params.not_after = date_time_ymd(2021, 3, 2);
                    }),
                ),
                "has expired: it is valid from 1 January 2020, 00:00 UTC to 2 March 2021, 00:00 UTC",
            ),
            (
                "not yet valid",
                refused(
                    given,
                    leaf(&ours, |params| {
                        params.not_before = date_time_ymd(2090, 1, 1);
                        params.not_after = date_time_ymd(2091, 3, 2);
                    }),
                ),
                "is not valid yet: it is valid from 1 January 2090, 00:00 UTC to 2 March 2091, 00:00 UTC",
            ),
            (
                "another name",
                refused(
                    given,
                    leaf(&ours, |params| {
                        params.subject_alt_names = vec![
                            rcgen::SanType::DnsName("other.example".try_into().unwrap()),
                            rcgen::SanType::IpAddress("192.0.2.7".parse().unwrap()),
                        ];
                    }),
                ),
                "is for another name: stamp.example was asked for, it is for other.example, 192.0.2.7",
            ),
            (
                "unknown issuer, a file given",
                refused(given, leaf(&theirs, |_| {})),
                "is signed by an authority that this machine does not know: CN=Proxy Root\n",
            ),
            ("unknown issuer", refused(None, leaf(&theirs, |_| {})), "give its certificate with --ca-file FILE"),
            (
                "an authority's own",
                refused(given, leaf(&ours, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
                "is not a server's but an authority's own (",
            ),
            (
                "another authority of the same name",
                refused(given, leaf(&authority("Contoso Root"), |_| {})),
                "names CN=Contoso Root as its authority, and was not signed with the key that is known of it",
            ),
            (
                "for clients",
                refused(
                    given,
                    leaf(&ours, |params| {
                        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
                    }),
                ),
                "is not made for servers",
            ),
            (
                "by itself",
                refused(given, {
                    let key = KeyPair::generate().unwrap();
                    let params = CertificateParams::new(vec!["stamp.example".to_owned()]).unwrap();
                    (vec![params.self_signed(&key).unwrap().der().clone()], key)
                }),
                "is signed by no authority but by itself",
            ),
        ] {
            let text = said(&untrusted, None);
            assert!(text.contains(words), "{name}: {text}");
            for debug in ["EndEntity", "NotValid", "UnknownIssuer", "Expired", "invalid peer certificate", "{"] {
                assert!(!text.contains(debug), "{name}: {debug}: {text}");
            }
        }
    }

    #[test]
    fn the_other_clock_tells_whose_fault_it_is() {
        let ours = authority("Contoso Root");
        let expired = refused(
            Some(&ours.pem),
            leaf(&ours, |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 3, 2);
            }),
        );
        assert!(said(&expired, None).contains("was not renewed, or this machine's clock is fast"));
        let same = said(&expired, Some(("Azure's", SignedDuration::ZERO)));
        assert!(same.contains(", Azure's ") && same.contains("By both clocks it has expired."), "{same}");
        let back = expired.at.duration_since("2020-06-01T00:00:00Z".parse().unwrap());
        let wrong = said(&expired, Some(("Azure's", -back)));
        assert!(wrong.contains("Azure's 1 June 2020, 00:00 UTC") && wrong.contains("Set the clock"), "{wrong}");
    }
}
