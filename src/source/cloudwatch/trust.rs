//! Certificates that the user names, as behind a proxy that looks into TLS: AWS_CA_BUNDLE, `ca_bundle` of the profile, `--ca-bundle`.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A client that trusts the certificates in `bundle` and no others, as the AWS CLI does; else it is the SDK's own, which goes by
/// the environment's proxies. The error says what is wrong with the file.
pub(crate) fn client_that_trusts(bundle: &Path) -> Result<SharedHttpClient, String> {
    let text = std::fs::read(bundle).map_err(|error| error.to_string())?;
    let (certificates, left_out) = certificates(&String::from_utf8_lossy(&text));
    if certificates.is_empty() {
        return Err("it holds no certificate (-----BEGIN CERTIFICATE-----) that can be used".into());
    }
    if left_out > 0 {
        tracing::warn!(bundle = %bundle.display(), left_out, "certificates that can't be used are left out");
    }
    let store = certificates.into_iter().fold(TrustStore::empty(), TrustStore::with_pem_certificate);
    let tls = TlsContext::builder().with_trust_store(store).build().map_err(|error| error.to_string())?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector =
            ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    }))
}

/// The certificates in PEM that TLS takes, and how many it doesn't: one such in a bundle must not cost the others.
fn certificates(text: &str) -> (Vec<Vec<u8>>, usize) {
    let mut store = RootCertStore::empty();
    let (mut taken, mut left_out) = (Vec::new(), 0);
    for rest in text.split(BEGIN).skip(1) {
        let Some((body, _)) = rest.split_once(END) else {
            left_out += 1;
            continue;
        };
        let pem = format!("{BEGIN}{body}{END}\n").into_bytes();
        match CertificateDer::from_pem_slice(&pem).ok().and_then(|certificate| store.add(certificate).ok()) {
            Some(()) => taken.push(pem),
            None => left_out += 1,
        }
    }
    (taken, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its private key was thrown away.
    const CERTIFICATE: &str = include_str!("trust/example.pem");

    #[test]
    fn what_is_no_certificate_costs_only_itself() {
        let broken = format!("{BEGIN}\nAAAA\n{END}\n");
        let cut = format!("{BEGIN}\nAAAA\n");
        assert_eq!(certificates(&format!("a comment\n{CERTIFICATE}{broken}{CERTIFICATE}{cut}")).0.len(), 2);
        assert_eq!(certificates(&format!("{broken}{cut}")), (Vec::new(), 2));
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle.pem");
        assert!(client_that_trusts(&bundle).unwrap_err().contains("No such file"));
        std::fs::write(&bundle, &broken).unwrap();
        assert!(client_that_trusts(&bundle).unwrap_err().contains("no certificate"));
        std::fs::write(&bundle, CERTIFICATE).unwrap();
        client_that_trusts(&bundle).unwrap();
    }
}
