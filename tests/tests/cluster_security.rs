//! Who is let in: nothing listens bare beyond the machine, and neither a wrong token, a wrong certificate nor another
//! build gets an answer.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gosset_tests::cluster::Processes;
use gosset_tests::gosset_binary;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

fn gosset(arguments: &[&str]) -> Output {
    Command::new(gosset_binary()).args(arguments).output().unwrap()
}

fn and<'a>(words: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [words, more].concat()
}

/// Runs it; the status and what is on standard error.
fn fails(arguments: &[&str]) -> (i32, String) {
    let output = gosset(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), said)
}

/// What a server says that wants another certificate comes through, or the connection is closed before.
fn is_refused(status: i32, said: &str) -> bool {
    match status {
        77 => said.contains("refuses this certificate"),
        69 => said.contains("does it want a certificate"),
        _ => false,
    }
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Certificates that one authority signed.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let certificate = file(folder, &format!("{name}.pem"), &certificate);
        Self { folder: folder.to_owned(), issuer: Issuer::new(params, key), certificate }
    }

    /// The files of a certificate for this machine, and of its key.
    fn sign(&self, name: &str) -> (String, String) {
        self.sign_for(&["localhost", "127.0.0.1"], name)
    }

    fn sign_for(&self, hosts: &[&str], name: &str) -> (String, String) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.into()).collect();
        let params = CertificateParams::new(hosts).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let certificate = file(&self.folder, &format!("{name}.crt"), &certificate);
        (certificate, file(&self.folder, &format!("{name}.key"), &key.serialize_pem()))
    }
}

/// A table of several files, so that a query shuffles between executors.
fn table(folder: &Path) -> String {
    for part in 0..4 {
        let rows: String = (0..50).map(|i| format!("{},{}\n", i % 7, i + part)).collect();
        file(folder, &format!("{part}.csv"), &format!("k,v\n{rows}"));
    }
    format!("SELECT k, sum(v) AS s FROM '{}/*.csv' GROUP BY k ORDER BY k LIMIT 1", folder.display())
}

#[test]
fn nothing_listens_bare_beyond_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let (certificate, key) = authority.sign("server");
    let token = file(folder.path(), "token", "s3cret");
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-ca", &authority.certificate];
    for part in ["scheduler", "executor"] {
        let beyond = [part, "--listen", "0.0.0.0:0"];
        let with = |more: &[&str]| fails(&[&beyond[..], more].concat());
        let (status, said) = with(&[]);
        assert!(status == 78 && said.contains("needs TLS"), "{status} {said}");
        let (status, said) = with(&["--token-file", &token]);
        assert!(status == 78 && said.contains("needs TLS"), "{status} {said}");
        let (status, said) = with(&tls);
        assert!(status == 78 && said.contains("shared token"), "{status} {said}");
        let (status, said) = with(&["--plaintext"]);
        assert!(status == 78 && said.contains("shared token"), "{status} {said}");
    }
}

#[test]
fn a_token_is_the_same_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let token = file(folder.path(), "token", "s3cret\n");
    let wrong = file(folder.path(), "wrong", "s3cres");
    let cluster = Processes::start_with(1, 1, &["--token-file", &token]);
    let url = cluster.url();
    let sql = ["sql", "-c", "SELECT 1 + 1 AS two", "--format", "csv", "--cluster", &url];
    let output = gosset(&[&sql[..], &["--token-file", &token]].concat());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "two\n2\n", "{output:?}");

    for given in [&["--token-file", &wrong][..], &[]] {
        let (status, said) = fails(&[&sql[..], given].concat());
        assert!(status == 77 && said.contains("the client's token is not that"), "{status} {said}");
    }
    let at = cluster.scheduler.address.to_string();
    let (status, said) = fails(&["executor", "--scheduler", &at, "--listen", "127.0.0.1:0"]);
    assert!(status == 77 && said.contains("the executor's token is not that"), "{status} {said}");
}

#[test]
fn tls_is_on_every_hop() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) =
        (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "stranger"));
    let (certificate, key) = authority.sign("server");
    let token = file(folder.path(), "token", "s3cret");
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-ca", &authority.certificate];
    let secret = ["--token-file", token.as_str()];
    let cluster = Processes::start_with(2, 1, &[&tls[..], &secret].concat());
    let url = cluster.url();
    let query = table(folder.path());
    let sql = ["sql", "-c", &query, "--format", "csv", "--cluster", &url, "--cluster-wait", "1"];

    let output = gosset(&and(&sql, &["--tls-ca", &authority.certificate, secret[0], secret[1]]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "k,s\n0,832\n", "{output:?}");

    let (status, said) =
        fails(&and(&sql, &["--tls-ca", &stranger.certificate, secret[0], secret[1]]));
    assert!(status == 78 && said.contains("not trusted"), "{status} {said}");
    let (status, said) = fails(&and(&sql, &["--tls-ca", &authority.certificate]));
    assert!(status == 77 && said.contains("token"), "{status} {said}");
    // Without TLS the scheduler says nothing that would be understood.
    let (status, said) = fails(&and(&sql, &secret));
    assert!(status == 69 && said.contains("no answer"), "{status} {said}");
}

#[test]
fn one_certificate_is_of_all_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let (certificate, key) = authority.sign_for(&["gosset.internal"], "server");
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-ca", &authority.certificate];
    let cluster = Processes::start_with(2, 1, &and(&tls, &["--tls-name", "gosset.internal"]));
    let (url, query) = (cluster.url(), table(folder.path()));
    let sql = ["sql", "-c", &query, "--format", "csv", "--cluster", &url, "--cluster-wait", "1"];
    let sql = and(&sql, &["--tls-ca", &authority.certificate]);
    let output = gosset(&and(&sql, &["--tls-name", "gosset.internal"]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "k,s\n0,832\n", "{output:?}");
    let (status, said) = fails(&sql);
    assert!(status == 78 && said.contains("not trusted"), "{status} {said}");
}

#[test]
fn client_certificates_do_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) =
        (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "stranger"));
    let (certificate, key) = authority.sign("server");
    let (mine, my_key) = authority.sign("client");
    let (forged, forged_key) = stranger.sign("forged");
    let ca = ["--tls-ca", authority.certificate.as_str()];
    let mutual =
        ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &authority.certificate];
    let cluster = Processes::start_with(2, 1, &[&mutual[..], &ca].concat());
    let url = cluster.url();
    let query = table(folder.path());
    let sql = ["sql", "-c", &query, "--format", "csv", "--cluster", &url, "--cluster-wait", "1"];
    let sql = and(&sql, &ca);

    let output = gosset(&and(&sql, &["--tls-cert", &mine, "--tls-key", &my_key]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "k,s\n0,832\n", "{output:?}");
    let (status, said) = fails(&and(&sql, &[]));
    assert!(is_refused(status, &said), "{status} {said}");
    let (status, said) = fails(&and(&sql, &["--tls-cert", &forged, "--tls-key", &forged_key]));
    assert!(is_refused(status, &said), "{status} {said}");
}
