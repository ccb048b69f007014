use std::path::Path;

use bytes::Bytes;
use opyard_model::error::Code;
use opyard_model::id::Name;
use opyard_model::location::{Credential, Credentials, Location, UsedSecret};
use opyard_model::plan::{Access, ModelRegistryDriver, ResourceSpec};
use opyard_model::secret::SecretSpec;

use super::server::{Reply, Server};
use crate::error::ResourceError;
use crate::object_store::PutMode;
use crate::pool::Resources;

/// Credentials, each a file of `folder`.
fn written(folder: &Path, parts: &[(Credential, &str)]) -> Credentials {
    let used = |(part, text): &(Credential, &str)| {
        let path = folder.join(part.name());
        std::fs::write(&path, text).unwrap();
        let from = SecretSpec::File(path.to_str().unwrap().to_owned());
        (*part, UsedSecret { secret: Name::new(part.name()).unwrap(), from })
    };
    parts.iter().map(used).collect()
}

#[tokio::test]
async fn a_server_is_shown_what_it_takes_and_nobody_else_is() {
    let elsewhere = Server::new(|_| Reply::new(200, "", b"{}")).await;
    let to = format!("{}/stolen", elsewhere.origin());
    let server = Server::new(move |seen| match seen.path.contains("registered-models/alias") {
        true => Reply::to(302, &to),
        false => Reply::new(404, "", br#"{"error_code":"RESOURCE_DOES_NOT_EXIST"}"#),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let resources = Resources::default();
    for (parts, shown) in [
        (&[(Credential::Token, "t0k3n")][..], Some("Bearer t0k3n")),
        (&[(Credential::Username, "ada"), (Credential::Password, "lovelace\n")], Some("Basic YWRhOmxvdmVsYWNl")),
        (&[], None),
    ] {
        let url = Location { url: server.origin(), credentials: written(folder.path(), parts) };
        let driver = ModelRegistryDriver::Mlflow { url };
        let spec = ResourceSpec::ModelRegistry { driver, access: Access::Read, version: None };
        let models = resources.model_registry(&spec, Access::Read).await.unwrap();
        assert!(!format!("{models:?}").contains("t0k3n"));
        for selector in ["1", "@best"] {
            models.resolve("iris", selector).await.unwrap_err();
        }
        let seen = server.seen();
        assert_eq!(seen.last().unwrap().header("authorization"), shown);
    }
    assert_eq!(elsewhere.seen(), [], "redirects are not followed");
}

/// A secret is read each time that a resource is opened: what was changed is used, and what is gone is missed.
#[tokio::test]
async fn a_credential_that_is_gone_is_the_operators_to_find() {
    let folder = tempfile::tempdir().unwrap();
    let parts = [(Credential::AccessKeyId, "id"), (Credential::SecretAccessKey, "key")];
    let url = Location { url: "s3://bucket".into(), credentials: written(folder.path(), &parts) };
    let spec = ResourceSpec::ObjectStore { url, access: Access::Read, version: None };
    let resources = Resources::default();
    resources.object_store(&spec, Access::Read).await.unwrap();
    std::fs::write(folder.path().join("secret_access_key"), [0xff, 0xfe]).unwrap();
    let told = |failure: crate::error::ResourceFailure| {
        assert!(matches!(&failure.answer, ResourceError::Unavailable(text) if !text.contains("access_key")));
        let detail = failure.detail.unwrap();
        assert_eq!(detail.code, Code::SecretMissing);
        detail.description
    };
    let failure = told(resources.object_store(&spec, Access::Read).await.unwrap_err());
    assert!(failure.contains("secret_access_key") && failure.contains("no text"), "{failure}");
    std::fs::remove_file(folder.path().join("secret_access_key")).unwrap();
    let failure = told(resources.object_store(&spec, Access::Read).await.unwrap_err());
    assert!(failure.contains("there is no such file"), "{failure}");
}

/// A server that tells its users apart. The environment has credentials that are right.
#[tokio::test]
#[ignore = "needs a server: set OPYARD_TEST_OBJECTS"]
async fn remote_stores_are_used_with_the_credentials_that_are_given() {
    let address = std::env::var("OPYARD_TEST_OBJECTS").unwrap();
    if !address.starts_with("s3:") {
        return; // The names of others' credentials are others.
    }
    let (id, key) = (std::env::var("AWS_ACCESS_KEY_ID").unwrap(), std::env::var("AWS_SECRET_ACCESS_KEY").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let resources = Resources::default();
    let open = async |key: &str| {
        let credentials =
            written(folder.path(), &[(Credential::AccessKeyId, id.as_str()), (Credential::SecretAccessKey, key)]);
        let url = Location { url: format!("{address}/credentials"), credentials };
        let spec = ResourceSpec::ObjectStore { url, access: Access::ReadWrite, version: None };
        resources.object_store(&spec, Access::ReadWrite).await.unwrap()
    };
    let put = async |key: &str| {
        let mut writer = open(key).await.put("greeting", PutMode::Overwrite)?;
        writer.write(Bytes::from_static(b"hello")).await?;
        writer.commit().await
    };
    assert_eq!(put(&key).await.unwrap().size, 5);
    assert!(put("something else").await.is_err(), "the credentials of the environment were used in their place");
}
