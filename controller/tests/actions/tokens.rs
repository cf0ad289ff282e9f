//! How credentials become tokens, and when a new one is fetched.

use futures::future::join_all;
use headstart_controller::actions::credentials::Credentials;
use headstart_controller::actions::{Inputs, ServiceError};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use k8s_openapi::ByteString;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::Value;

use crate::fake::{Answer, Fake, inputs, service};

#[tokio::test]
async fn an_app_proves_who_it_is_and_gets_a_token_of_its_installation() {
    let (fake, url) = Fake::start().await;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let pem = key.serialize_pem();
    let data = [
        ("github_app_id", "12"),
        ("github_app_installation_id", "34"),
        ("github_app_private_key", pem.as_str()),
    ];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())));
    let credentials = Credentials::read(&data.into()).unwrap();
    service(&Inputs { credentials, ..inputs(&url) }).register(3, "a", "").await.unwrap();
    let calls = fake.calls();
    assert_eq!(calls[0].line, "POST /api/v3/app/installations/34/access_tokens");
    let proof = calls[0].header("authorization").strip_prefix("Bearer ").unwrap();
    let public = DecodingKey::from_rsa_der(key.der_bytes());
    let claims =
        jsonwebtoken::decode::<Value>(proof, &public, &Validation::new(Algorithm::RS256)).unwrap().claims;
    assert_eq!(claims["iss"], "12");
    assert_eq!(calls[1].line, "POST /api/v3/repos/o/r/actions/runners/registration-token");
    assert_eq!(calls[1].header("authorization"), "Bearer s3cret-installation");
    assert_eq!(calls.len(), 4);
}

#[tokio::test]
async fn a_token_is_used_as_long_as_it_is_good() {
    for (validity, fetches) in [(3600, 1), (90, 1), (30, 3), (0, 3)] {
        let (fake, url) = Fake::start().await;
        fake.gives_tokens_for(validity);
        let service = service(&inputs(&url));
        for _ in 0..3 {
            service.register(3, "a", "").await.unwrap();
        }
        assert_eq!(fake.count("/runner-registration"), fetches, "{validity} s");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_for_all() {
    const CALLS: usize = 16;
    let (fake, url) = Fake::start().await;
    let service = service(&inputs(&url));
    service.prepare().await.unwrap();
    fake.revokes();
    // All are refused before the first of them learns of it; their second tries come together as well.
    fake.answers_together("generatejitconfig", CALLS);
    let outcomes = join_all((0..CALLS).map(|_| service.register(3, "a", ""))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(fake.count("/runner-registration"), 2);
    assert_eq!(fake.count("generatejitconfig"), 2 * CALLS);
}

#[tokio::test]
async fn a_call_is_made_twice_at_most() {
    let (fake, url) = Fake::start().await;
    let service = service(&inputs(&url));
    for _ in 0..2 {
        fake.answers_once("generatejitconfig", Answer::new(401, ""));
    }
    let error = service.register(3, "a", "").await.unwrap_err();
    assert_eq!(error, ServiceError::Unauthorized("ns/github".to_owned()));
    assert_eq!((fake.count("generatejitconfig"), fake.count("/runner-registration")), (2, 2));
    service.register(3, "a", "").await.unwrap();
}

#[tokio::test]
async fn a_fetch_that_fails_fails_for_all_who_wait_and_is_made_once() {
    const CALLS: usize = 8;
    let (fake, url) = Fake::start().await;
    let service = service(&inputs(&url));
    fake.answers_once("/registration-token", Answer::new(502, ""));
    let outcomes = join_all((0..CALLS).map(|_| service.find("a"))).await;
    let unavailable = ServiceError::Unavailable { status: 502, retry_after: None };
    assert!(outcomes.into_iter().all(|outcome| outcome == Err(unavailable.clone())));
    assert_eq!(fake.calls().len(), 1);
    assert_eq!(service.find("a").await, Ok(None));
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_to_a_token_is_told() {
    let (fake, url) = Fake::start().await;
    let service = service(&inputs(&url));
    for (word, answer, words) in [
        ("/registration-token", Answer::new(401, "{}"), "credentials in Secret ns/github"),
        (
            "/registration-token",
            Answer::new(404, r#"{"message":"Not Found"}"#),
            "Not Found; check githubConfigUrl",
        ),
        ("/registration-token", Answer::new(403, "").with("retry-after", "9"), "to wait for 9 s"),
        ("/registration-token", Answer::new(201, "s3cret"), "no JSON"),
        ("/runner-registration", Answer::new(403, ""), "answers with 403"),
        (
            "/runner-registration",
            Answer::new(200, r#"{"url":"ftp://x","token":"s3cret"}"#),
            "no HTTP address",
        ),
        ("/runner-registration", Answer::new(200, r#"{"token":"s3cret"}"#), "not of the kind"),
    ] {
        fake.answers_once(word, answer);
        let error = service.prepare().await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
    }
}
