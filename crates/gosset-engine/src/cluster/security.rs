//! Who may speak to whom: TLS, the shared token, client certificates, and what may listen without them.
//!
//! Every hop (client, scheduler, executors) is made by one function, [`Security::endpoint`], and every server is guarded
//! by another, [`Security::guard`]. Ballista lets an endpoint be changed but not its requests: what a part says of itself
//! is in the one header that an endpoint sets, `user-agent`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};

use super::build::Build;
use crate::{EngineError, Result};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the head of an answer may take: planning is before it, the query is not.
const ANSWER: Duration = Duration::from_secs(60);
/// A peer behind a cut cable says nothing: it is asked this often, and must answer within as long again.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The part of a cluster that a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Scheduler,
    Executor,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Scheduler => "scheduler",
            Self::Executor => "executor",
        }
    }
}

/// What a process shows to others and trusts of them.
#[derive(Clone, Default)]
pub struct Security {
    token: Option<String>,
    authorities: Option<Vec<u8>>,
    identity: Option<Identity>,
    client_authorities: Option<Vec<u8>>,
    server_name: Option<String>,
    plaintext: bool,
}

impl Security {
    /// Without TLS and without a token: good on one machine alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// The secret that all parts of the cluster share.
    ///
    /// # Errors
    /// If it is empty.
    pub fn with_token(mut self, token: &str) -> Result<Self> {
        let token = token.trim();
        if token.is_empty() {
            return Err(EngineError::Setup("the cluster's token is empty".into()));
        }
        self.token = Some(token.to_owned());
        Ok(self)
    }

    /// Speaks TLS to others, and trusts those whose certificates are signed by one in this file (PEM).
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn with_authorities(mut self, file: &Path) -> Result<Self> {
        self.authorities = Some(read(file)?);
        Ok(self)
    }

    /// The certificate (a chain, PEM) and the key that this process shows, as a server and as a client.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn with_identity(mut self, certificate: &Path, key: &Path) -> Result<Self> {
        self.identity = Some(Identity::from_pem(read(certificate)?, read(key)?));
        Ok(self)
    }

    /// Lets only those in who show a certificate that is signed by one in this file (PEM).
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn with_client_authorities(mut self, file: &Path) -> Result<Self> {
        self.client_authorities = Some(read(file)?);
        Ok(self)
    }

    /// Expects this name in the certificates of all parts, and not those of their hosts: executors come and go.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Listens beyond this machine without TLS, because something else (a service mesh) encrypts what comes and goes.
    #[must_use]
    pub fn with_plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// Whether a server may listen at an address: at a loopback address always, at any other with a secret alone, and
    /// encrypted.
    pub(crate) fn may_listen(&self, address: SocketAddr) -> Result<()> {
        let refused =
            |why: &str| Err(EngineError::Setup(format!("refusing to listen on {address}: {why}")));
        if self.client_authorities.is_some() && self.identity.is_none() {
            return refused("client certificates need TLS (--tls-cert and --tls-key)");
        }
        if self.identity.is_some() && self.trusted().is_none() {
            return refused("TLS needs the certificate that signs the others' (--tls-ca)");
        }
        if address.ip().is_loopback() {
            return Ok(());
        }
        if self.identity.is_none() && !self.plaintext {
            return refused("beyond this machine it needs TLS (--tls-cert, --tls-key, --tls-ca)");
        }
        if self.token.is_none() && self.client_authorities.is_none() {
            return refused(
                "beyond this machine it needs a shared token (GOSSET_CLUSTER_TOKEN or --token-file) or client \
                 certificates (--tls-client-ca)",
            );
        }
        Ok(())
    }

    /// Those whose certificates sign the servers' certificates.
    fn trusted(&self) -> Option<&Vec<u8>> {
        self.authorities.as_ref().or(self.client_authorities.as_ref())
    }

    /// Whether others are spoken to in TLS.
    pub(crate) fn speaks_tls(&self) -> bool {
        self.trusted().is_some()
    }

    /// A server, encrypted where there is a certificate.
    pub(crate) fn server(&self) -> Result<Server> {
        let server = Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(ASK_EVERY))
            .http2_keepalive_timeout(Some(2 * ASK_EVERY));
        let Some(identity) = &self.identity else { return Ok(server) };
        let mut tls = ServerTlsConfig::new().identity(identity.clone());
        if let Some(authorities) = &self.client_authorities {
            tls = tls.client_ca_root(Certificate::from_pem(authorities));
        }
        server.tls_config(tls).map_err(|error| {
            EngineError::Setup(format!(
                "the certificate or its key is not usable: {}",
                causes(&error)
            ))
        })
    }

    /// What every request to a server is held against.
    pub(crate) fn guard(
        &self,
        role: Role,
        build: Build,
    ) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
        let token = self.token.clone();
        move |request| {
            let header = request.metadata().get("user-agent").and_then(|value| value.to_str().ok());
            let caller = Caller::parse(header.unwrap_or_default());
            if let Some(token) = &token {
                let same: bool =
                    caller.token.as_bytes().ct_eq(hex(token.as_bytes()).as_bytes()).into();
                if !same {
                    return Err(Status::unauthenticated(format!(
                        "the {}'s token is not that of the {}",
                        caller.role,
                        role.name()
                    )));
                }
            }
            if caller.build != build {
                return Err(Status::failed_precondition(format!(
                    "the {} is {build}, the {} is {}: all parts of a cluster must be of one build",
                    role.name(),
                    caller.role,
                    caller.build
                )));
            }
            Ok(request)
        }
    }

    /// An endpoint at a host and port, as a part of this cluster speaks to it.
    pub(crate) fn endpoint(&self, role: Role, build: &Build, at: &str) -> Result<Endpoint> {
        let scheme = if self.speaks_tls() { "https" } else { "http" };
        let unusable = |error: tonic::transport::Error| {
            EngineError::Setup(format!("'{at}' is not usable: {}", causes(&error)))
        };
        let token = self.token.as_deref().map(|token| hex(token.as_bytes())).unwrap_or_default();
        let says = format!(
            "gosset/{} functions/{} role/{} token/{token}",
            build.version(),
            build.functions(),
            role.name()
        );
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{at}"))
            .map_err(unusable)?
            .user_agent(says)
            .map_err(unusable)?
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ASK_EVERY)
            .keep_alive_timeout(2 * ASK_EVERY)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(64 << 20)
            .initial_stream_window_size(16 << 20);
        if let Some(authorities) = self.trusted() {
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
            if let Some(identity) = &self.identity {
                tls = tls.identity(identity.clone());
            }
            if let Some(name) = &self.server_name {
                tls = tls.domain_name(name);
            }
            endpoint = endpoint.tls_config(tls).map_err(unusable)?;
        }
        Ok(endpoint)
    }

    /// The same for endpoints that Ballista made.
    pub(crate) fn override_endpoint(
        &self,
        role: Role,
        build: &Build,
    ) -> ballista_core::extension::EndpointOverrideFn {
        let (security, build) = (self.clone(), build.clone());
        std::sync::Arc::new(move |endpoint: Endpoint| {
            let at = endpoint.uri().authority().map(ToString::to_string).unwrap_or_default();
            Ok(security.endpoint(role, &build, &at)?)
        })
    }
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security")
            .field("token", &self.token.is_some())
            .field("tls", &self.speaks_tls())
            .field("identity", &self.identity.is_some())
            .field("client_certificates", &self.client_authorities.is_some())
            .finish()
    }
}

/// What a caller says of itself.
struct Caller<'a> {
    role: &'a str,
    token: &'a str,
    build: Build,
}

impl<'a> Caller<'a> {
    fn parse(header: &'a str) -> Self {
        let field = |name: &str| {
            header
                .split(' ')
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('/'))
                .unwrap_or("")
        };
        let role = match field("role") {
            "" => "caller",
            role => role,
        };
        let build = Build::new(field("gosset"), field("functions"));
        Self { role, token: field("token"), build }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| EngineError::Setup(format!("{}: {error}", file.display())))
}

/// An error of the transport says nothing itself; its causes do.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(security: &Security, header: &str) -> Result<(), Status> {
        let mut request = Request::new(());
        request.metadata_mut().insert("user-agent", header.parse().expect("a header"));
        security.guard(Role::Scheduler, Build::this())(request).map(|_| ())
    }

    fn says(build: &Build, token: &str) -> String {
        format!(
            "gosset/{} functions/{} role/client token/{} tonic/0.14",
            build.version(),
            build.functions(),
            hex(token.as_bytes())
        )
    }

    #[test]
    fn the_token_and_the_build_must_be_those_of_the_cluster() {
        let open = Security::new();
        assert!(asked(&open, &says(&Build::this(), "")).is_ok());
        let closed = Security::new().with_token("s3cret ☂\n").expect("a token");
        assert!(asked(&closed, &says(&Build::this(), "s3cret ☂")).is_ok());
        for wrong in ["", "s3cret", "s3cret ☂☂", "S3CRET ☂"] {
            let refused = asked(&closed, &says(&Build::this(), wrong)).expect_err("a wrong token");
            assert_eq!(refused.code(), tonic::Code::Unauthenticated);
            assert_eq!(refused.message(), "the client's token is not that of the scheduler");
        }
        let refused = asked(&open, &says(&Build::other(), "")).expect_err("another build");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        let (this, other) = (Build::this(), Build::other());
        assert_eq!(
            refused.message(),
            format!(
                "the scheduler is {this}, the client is {other}: all parts of a cluster must be of one build"
            )
        );
        // Strangers are not told what is here.
        let refused = asked(&closed, "curl/8").expect_err("a stranger");
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        assert!(Security::new().with_token(" \n").is_err());
    }

    #[test]
    fn nothing_listens_bare_beyond_the_machine() {
        let (loopback, beyond) =
            ("127.0.0.1:1".parse().expect("one"), "0.0.0.0:1".parse().expect("one"));
        let why =
            |security: &Security| security.may_listen(beyond).expect_err("refused").to_string();
        let token = || Security::new().with_token("t").expect("a token");
        let identity = Some(Identity::from_pem("", ""));
        assert!(Security::new().may_listen(loopback).is_ok());
        assert!(why(&Security::new()).contains("--tls-cert"));
        assert!(why(&token()).contains("--tls-cert"));
        let certified = Security { identity: identity.clone(), ..Security::new() };
        assert!(why(&certified).contains("--tls-ca"));
        let certified =
            Security { identity: identity.clone(), authorities: Some(vec![]), ..Security::new() };
        assert!(why(&certified).contains("--token-file"));
        let both = Security { identity: identity.clone(), authorities: Some(vec![]), ..token() };
        assert!(both.may_listen(beyond).is_ok());
        let mutual = Security { identity, client_authorities: Some(vec![]), ..Security::new() };
        assert!(mutual.may_listen(beyond).is_ok());
        assert!(why(&Security::new().with_plaintext()).contains("--token-file"));
        assert!(token().with_plaintext().may_listen(beyond).is_ok());
    }

    #[test]
    fn debug_text_has_no_secret() {
        let security = Security::new().with_token("hush").expect("a token");
        assert!(!format!("{security:?}").contains("hush"));
    }
}
