use opyard_model::error::Code;
use opyard_model::id::Name;
use opyard_model::plan::ResourceSpec;
use opyard_model::secret::{MAX_SECRET, SecretSpec};

use crate::error::{ResourceError, ResourceFailure};
use crate::pool::Resources;
use crate::secret::{SecretBytes, secret_problem};

async fn reveal(from: SecretSpec) -> Result<SecretBytes, ResourceFailure> {
    let name = Name::new("token").unwrap();
    Resources::default().secret(&name, &ResourceSpec::Secret { from }).await
}

#[tokio::test]
async fn secrets_are_read_as_they_are_but_for_one_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let from = SecretSpec::File(path.to_str().unwrap().to_owned());
    let largest = vec![b'x'; MAX_SECRET];
    for (written, read) in [
        (&b"s3cr3t"[..], &b"s3cr3t"[..]),
        (b"s3cr3t\n", b"s3cr3t"),
        (b"s3cr3t\r\n", b"s3cr3t"),
        (b"s3cr3t\n\n", b"s3cr3t\n"),
        (b" s3cr3t \r", b" s3cr3t \r"),
        (&[0, 0xff, b'\n'], &[0, 0xff]),
        (&largest, &largest),
        (&[&largest[..], b"\r\n"].concat(), &largest),
    ] {
        std::fs::write(&path, written).unwrap();
        let secret = reveal(from.clone()).await.unwrap();
        assert_eq!(secret.expose(), read);
        assert_eq!(format!("{secret:?}"), "SecretBytes(…)");
        assert_eq!(secret_problem(&from), None);
    }
    // One that the environment of every test has.
    let path = std::env::var_os("PATH").unwrap().into_encoded_bytes();
    assert_eq!(reveal(SecretSpec::Env("PATH".into())).await.unwrap().expose(), path);
}

/// The operator learns which secret and where, the op only that there is none, and nobody what the bytes are.
#[tokio::test]
async fn what_cannot_be_had_is_told_without_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let canary = "canary-7f3a";
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    for (from, problem) in [
        (SecretSpec::Env("OPYARD_NO_SUCH_VARIABLE".into()), "it is not set"),
        (SecretSpec::File(missing), "there is no such file"),
        (SecretSpec::File(folder.path().to_str().unwrap().to_owned()), "it is not a file"),
        (SecretSpec::File("/dev/zero".into()), "it is not a file"),
        (SecretSpec::File(file("empty", b"")), "it is empty"),
        (SecretSpec::File(file("line", b"\n")), "it is empty"),
        (SecretSpec::File(file("large", canary.repeat(MAX_SECRET).as_bytes())), "more than 65536 bytes"),
        (SecretSpec::File(file("just", &[b'x'; MAX_SECRET + 1])), "more than 65536 bytes"),
    ] {
        let ResourceFailure { answer, detail } = reveal(from.clone()).await.unwrap_err();
        let ResourceError::Unavailable(told) = answer else { panic!("{answer:?}") };
        assert_eq!(told, "a secret that the resource needs cannot be had");
        let detail = detail.unwrap();
        assert_eq!(detail.code, Code::SecretMissing);
        let text = &detail.description;
        assert!(text.contains("`token`") && text.contains(&from.to_string()) && text.contains(problem), "{text}");
        assert!(!format!("{detail:?}").contains(canary));
        assert!(secret_problem(&from).is_some_and(|found| found.contains(problem)), "{from}");
    }
}
