//! Tokens that are granted for some time: asked for once, renewed before they run
//! out, kept when that fails, and never shown.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, advance, sleep, timeout};
use vk_flightctl::client::{ClientCredentials, TokenSource, Transport};

const ISSUER: &str = "https://issuer.test/realms/edge";
const SECRET: &str = "very:secret";

/// An issuer that grants `token-1`, `token-2` … each for a minute, and writes down
/// who asked how.
#[derive(Clone, Default)]
struct Issuer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    /// What it says instead of granting.
    down: Option<(u16, Value)>,
    /// How long it thinks.
    takes: Duration,
    discovery: Option<Value>,
    rotates: bool,
}

#[derive(Clone, Debug)]
struct Asked {
    uri: String,
    authorization: String,
    form: String,
}

impl Issuer {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    /// The questions for tokens so far.
    fn asked(&self) -> Vec<Asked> {
        let state = self.0.lock().unwrap();
        let asked = state.asked.iter();
        asked.filter(|a| !a.form.is_empty()).cloned().collect()
    }

    fn transport(&self) -> Transport {
        let issuer = self.clone();
        Transport::over(tower::service_fn(move |request: Request<Full<Bytes>>| {
            let issuer = issuer.clone();
            async move { Ok::<_, Infallible>(issuer.answer(request).await) }
        }))
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let form = body.collect().await.unwrap().to_bytes();
        let header = parts.headers.get(header::AUTHORIZATION);
        let (takes, status, body) = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(Asked {
                uri: parts.uri.to_string(),
                authorization: header
                    .map(|v| v.to_str().unwrap().to_owned())
                    .unwrap_or_default(),
                form: String::from_utf8(form.to_vec()).unwrap(),
            });
            let asked = state.asked.iter().filter(|a| !a.form.is_empty()).count();
            let discovery = json!({"issuer": ISSUER, "token_endpoint": format!("{ISSUER}/token")});
            let (status, body) = match (form.is_empty(), &state.down) {
                (true, _) => (200, state.discovery.clone().unwrap_or(discovery)),
                (false, Some(down)) => down.clone(),
                (false, None) => {
                    let mut granted =
                        json!({"access_token": format!("token-{asked}"), "expires_in": 60});
                    if state.rotates {
                        granted["refresh_token"] = json!(format!("refresh-{asked}"));
                    }
                    (200, granted)
                }
            };
            (state.takes, status, body)
        };
        sleep(takes).await;
        let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer
    }
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self, issuer: &Issuer) -> TokenSource {
        let client = ClientCredentials {
            issuer: ISSUER.into(),
            client_id: "edge provider".into(),
            secret_file: self.path("secret"),
            scopes: vec!["openid".into(), "roles".into()],
            audience: None,
        };
        TokenSource::client_credentials(client, issuer.transport())
    }

    /// What `flightctl login` leaves behind, with a minute to go.
    fn login(&self, access: &str, refresh: &str) -> PathBuf {
        let expiry = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
        let path = self.path("client.yaml");
        let yaml = format!(
            "service: {{server: 'https://fc.test'}}\nauthentication:\n  access-token: {access}\n  \
             access-token-expiry: '{expiry}'\n  refresh-token: {refresh}\n  token-to-use: access\n  \
             auth-provider:\n    auth-provider:\n      metadata: {{name: corp idp}}\n      \
             spec: {{providerType: oidc, issuer: '{ISSUER}', clientId: flightctl, scopes: [profile]}}\n"
        );
        write(&path, &yaml);
        path
    }
}

/// With a time stamp of its own, however coarse the file system's are.
fn write(path: &Path, text: &str) {
    let before = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let at = before.unwrap_or(std::time::UNIX_EPOCH) + Duration::from_secs(1);
    file.set_modified(at).unwrap();
}

fn logged_in(issuer: &Issuer, path: PathBuf) -> TokenSource {
    let base = Uri::from_static("https://fc.test/");
    TokenSource::client_config(path, issuer.transport(), &base)
}

async fn token(source: &TokenSource) -> String {
    source.current().await.unwrap().expose_secret().to_owned()
}

/// Lets a renewal in the background come to its end.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_granted_a_token_at_the_endpoint_that_its_issuer_names() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let source = files.client(&issuer);
    assert_eq!(token(&source).await, "token-1");
    assert_eq!(token(&source).await, "token-1");
    let all = issuer.0.lock().unwrap().asked.clone();
    let [discovery, asked] = &all[..] else {
        panic!("asked {all:?}");
    };
    assert_eq!(
        discovery.uri,
        format!("{ISSUER}/.well-known/openid-configuration")
    );
    assert_eq!(asked.uri, format!("{ISSUER}/token"));
    assert_eq!(
        asked.form,
        "grant_type=client_credentials&scope=openid%20roles"
    );
    let basic = asked.authorization.strip_prefix("Basic ").unwrap();
    assert_eq!(
        STANDARD.decode(basic).unwrap(),
        b"edge%20provider:very%3Asecret"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_issuer_takes_only_forms_sends_its_secret_in_one() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let methods = |methods: Value| {
        json!({"issuer": ISSUER, "token_endpoint": format!("{ISSUER}/token"),
               "token_endpoint_auth_methods_supported": methods})
    };
    issuer.set(|s| s.discovery = Some(methods(json!(["client_secret_post"]))));
    token(&files.client(&issuer)).await;
    let asked = &issuer.asked()[0];
    assert!(asked.authorization.is_empty());
    assert!(
        asked
            .form
            .ends_with("&client_id=edge%20provider&client_secret=very%3Asecret"),
        "{}",
        asked.form
    );
    issuer.set(|s| s.discovery = Some(methods(json!(["private_key_jwt"]))));
    let error = files.client(&issuer).current().await.unwrap_err();
    assert!(error.to_string().contains("client_secret_basic"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_runs_out_and_nobody_waits_for_that() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let source = files.client(&issuer);
    token(&source).await;
    issuer.set(|s| s.takes = Duration::from_secs(5));
    advance(Duration::from_secs(41)).await;
    assert_eq!(token(&source).await, "token-1");
    assert_eq!(issuer.asked().len(), 1, "70 % of a minute are not over");
    advance(Duration::from_secs(8)).await;
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(token(&source).await, "token-1");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(token(&source).await, "token-2");
    assert_eq!(issuer.asked().len(), 2, "one renewal for all who asked");
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_the_present_token_for_as_long_as_it_is_good() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let source = files.client(&issuer);
    token(&source).await;
    let said = format!("the secret {SECRET} is not known");
    let down = json!({"error": "invalid_client", "error_description": said});
    issuer.set(|s| s.down = Some((401, down)));
    for _ in 0..11 {
        advance(Duration::from_secs(5)).await;
        assert_eq!(token(&source).await, "token-1");
        settle().await;
    }
    let asked = issuer.asked().len();
    assert!(
        (2..=5).contains(&asked),
        "further and further apart: {asked}"
    );
    advance(Duration::from_secs(5)).await;
    let error = source.current().await.unwrap_err().to_string();
    assert!(
        error.contains(ISSUER) && error.contains("invalid_client"),
        "{error}"
    );
    assert!(!error.contains(SECRET), "{error}");
    let before = issuer.asked().len();
    for _ in 0..100 {
        source.current().await.unwrap_err();
    }
    assert_eq!(issuer.asked().len(), before, "told at once, without asking");

    issuer.set(|s| s.down = None);
    advance(Duration::from_secs(60)).await;
    assert!(token(&source).await.starts_with("token-"));
}

#[tokio::test(start_paused = true)]
async fn many_who_need_the_first_token_ask_for_it_once() {
    let (issuer, files) = (Issuer::default(), Files::new());
    issuer.set(|s| s.takes = Duration::from_secs(1));
    let source = files.client(&issuer);
    let all = (0..20).map(|_| token(&source));
    let all = futures::future::join_all(all).await;
    assert!(all.iter().all(|t| t == "token-1"), "{all:?}");
    assert_eq!(issuer.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_service_refuses_is_renewed_but_not_as_fast_as_it_refuses() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let source = files.client(&issuer);
    for _ in 0..100 {
        token(&source).await;
        source.refused();
        advance(Duration::from_secs(1)).await;
        settle().await;
    }
    let asked = issuer.asked().len();
    assert!((3..=5).contains(&asked), "asked {asked} times in 100 s");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_not_the_one_meant_is_refused_before_it_gets_the_secret() {
    let (issuer, files) = (Issuer::default(), Files::new());
    for (discovery, words) in [
        (
            json!({"issuer": "https://other.test", "token_endpoint": "https://other.test/t"}),
            "https://other.test",
        ),
        (
            json!({"issuer": ISSUER, "token_endpoint": "http://issuer.test/t"}),
            "in the clear",
        ),
        (json!({"hello": "world"}), "no discovery document"),
    ] {
        issuer.set(|s| s.discovery = Some(discovery));
        let error = files.client(&issuer).current().await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(issuer.asked().is_empty());
    std::fs::remove_file(files.path("secret")).unwrap();
    let error = files.client(&issuer).current().await.unwrap_err();
    assert!(error.to_string().contains("/secret"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_does_not_answer_holds_a_request_no_longer_than_any_other() {
    let (issuer, files) = (Issuer::default(), Files::new());
    issuer.set(|s| s.takes = Duration::from_secs(3600));
    let source = files.client(&issuer);
    let begun = Instant::now();
    let error = source.current().await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(15));
    assert!(error.to_string().contains(ISSUER), "{error}");
    assert!(!format!("{source:?}").contains("secret:"));
}

#[tokio::test(start_paused = true)]
async fn a_login_is_renewed_through_the_service_and_its_file_is_left_alone() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let path = files.login("the-access-token", "refresh 0");
    let written = std::fs::read_to_string(&path).unwrap();
    let source = logged_in(&issuer, path.clone());
    assert_eq!(token(&source).await, "the-access-token");
    assert!(issuer.asked().is_empty());
    issuer.set(|s| s.rotates = true);
    for turn in 1..=2 {
        advance(Duration::from_secs(50)).await;
        token(&source).await;
        settle().await;
        assert_eq!(token(&source).await, format!("token-{turn}"));
    }
    let asked = issuer.asked();
    assert_eq!(asked[0].uri, "https://fc.test/api/v1/auth/corp%20idp/token");
    assert_eq!(
        asked[0].form,
        "grant_type=refresh_token&client_id=flightctl&refresh_token=refresh%200"
    );
    assert!(
        asked[1].form.ends_with("refresh_token=refresh-1"),
        "the one that came with the last token: {}",
        asked[1].form
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
}

#[tokio::test(start_paused = true)]
async fn a_new_login_takes_the_place_of_what_was_renewed() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let path = files.login("first", "refresh-0");
    let source = logged_in(&issuer, path);
    assert_eq!(token(&source).await, "first");
    advance(Duration::from_secs(70)).await;
    assert_eq!(token(&source).await, "token-1");
    files.login("second", "refresh-9");
    assert_eq!(token(&source).await, "second");
    // The same text again is no other login.
    advance(Duration::from_secs(70)).await;
    assert_eq!(token(&source).await, "token-2");
    source.refused();
    assert_eq!(token(&source).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_outlives_the_request_that_began_it() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let path = files.login("first", "refresh-0");
    let source = logged_in(&issuer, path);
    token(&source).await;
    issuer.set(|s| (s.takes, s.rotates) = (Duration::from_secs(5), true));
    advance(Duration::from_secs(70)).await;
    let given_up = timeout(Duration::from_secs(1), source.current()).await;
    assert!(given_up.is_err(), "the first token is over");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(token(&source).await, "token-1");
    assert_eq!(issuer.asked().len(), 1, "the refresh token was used once");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_over_says_so() {
    let (issuer, files) = (Issuer::default(), Files::new());
    let path = files.login("first", "refresh-0");
    let refused = json!({"error": "invalid_grant", "error_description": "no refresh-0 here"});
    issuer.set(|s| s.down = Some((400, refused)));
    let source = logged_in(&issuer, path.clone());
    assert_eq!(token(&source).await, "first");
    advance(Duration::from_secs(70)).await;
    token_is_over(&source, "run flightctl login").await;
    let text = std::fs::read_to_string(&path).unwrap();
    write(
        &path,
        &text.replace("refresh-token: refresh-0", "organizations-enabled: true"),
    );
    assert_eq!(
        token(&source).await,
        "first",
        "by the wall clock it is good"
    );
    advance(Duration::from_secs(70)).await;
    token_is_over(&source, "there is no refresh token").await;
}

async fn token_is_over(source: &TokenSource, words: &str) {
    let error = source.current().await.unwrap_err().to_string();
    assert!(
        error.contains(words) && error.contains("client.yaml"),
        "{error}"
    );
    assert!(!error.contains("refresh-0"), "{error}");
}
