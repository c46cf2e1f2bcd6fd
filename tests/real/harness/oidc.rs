//! An OpenID Connect issuer: one key, its discovery document, and tokens for
//! whoever asks in this process; at its token endpoint for a client of its own, and
//! for refresh tokens, each of which is good once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// Longer than any test.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A client that connects and says nothing must not hold up the others.
const SILENCE: Duration = Duration::from_secs(5);

const KEY_ID: &str = "test";

/// A client of its own, who is an operator.
pub const CLIENT: (&str, &str) = ("provider", "provider-secret");
pub const OPERATOR: &str = "flightctl-operator";
pub const AUDIENCE: &str = "flightctl";

/// Of tokens from the endpoint: short, so that a test sees them renewed.
pub const GRANTED: Duration = Duration::from_secs(10);

/// The refresh token of whoever has just logged in.
pub const FIRST_REFRESH: &str = "refresh-0";

/// A listening issuer; it ends with its handle.
pub struct Oidc {
    issuer: Arc<Issuer>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Issuer {
    url: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
    discovery: Value,
    keys: Value,
    /// Refresh tokens used up.
    refreshed: Mutex<usize>,
}

impl Oidc {
    /// Listens before it returns.
    pub fn start() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key can be made");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random)
            .expect("a key just made can be read");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let url = format!("http://{address}");
        // 4, then the coordinates of 32 bytes each.
        let point = key.public_key().as_ref();
        let keys = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": BASE64URL.encode(&point[1..33]),
            "y": BASE64URL.encode(&point[33..65]),
        }]});
        let discovery = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/keys"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let issuer = Arc::new(Issuer {
            url,
            key,
            random,
            discovery,
            keys,
            refreshed: Mutex::default(),
        });
        let serving = Arc::clone(&issuer);
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever hangs up early asks again.
                let _ = serving.answer(&stream);
            }
        });
        Self {
            issuer,
            over,
            thread: Some(thread),
        }
    }

    /// The issuer's address and name.
    pub fn url(&self) -> &str {
        &self.issuer.url
    }

    /// How many refresh tokens have been used up.
    pub fn refreshed(&self) -> usize {
        *self.issuer.refreshed.lock().expect("no answer panics")
    }

    /// A token for `audience` of a user who has this role, and its name.
    pub fn token(&self, audience: &str, role: &str) -> String {
        self.issuer.token(audience, role, LIFETIME)
    }

    /// The same, good for [`GRANTED`] alone.
    pub fn short_token(&self, audience: &str, role: &str) -> String {
        self.issuer.token(audience, role, GRANTED)
    }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread; if that fails, it ends with the process.
        let woken = TcpStream::connect(self.issuer.url.trim_start_matches("http://"));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Issuer {
    fn token(&self, audience: &str, role: &str, lifetime: Duration) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is later than 1970")
            .as_secs();
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": KEY_ID});
        let claims = json!({
            "iss": self.url,
            "aud": audience,
            "sub": role,
            "preferred_username": role,
            "roles": [role],
            "iat": now,
            "exp": now + lifetime.as_secs(),
        });
        let encode = |value: &Value| BASE64URL.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .expect("the system has random numbers");
        format!("{signed}.{}", BASE64URL.encode(signature))
    }

    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let (mut length, mut client) = (0, String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or_default(),
                "authorization" => client = value.to_owned(),
                _ => {}
            }
        }
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body)?;
        let (status, body) = match request.split(' ').nth(1) {
            Some("/.well-known/openid-configuration") => ("200 OK", self.discovery.clone()),
            Some("/keys") => ("200 OK", self.keys.clone()),
            Some("/token") => match self.grant(&client, &body) {
                Ok(granted) => ("200 OK", granted),
                Err(error) => ("400 Bad Request", json!({"error": error})),
            },
            _ => ("404 Not Found", json!({})),
        };
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
    }

    /// What a form asks for; nothing in it needs an escape.
    fn grant(&self, client: &str, form: &str) -> Result<Value, &'static str> {
        let field = |name: &str| {
            let mut fields = form.split('&').filter_map(|field| field.split_once('='));
            fields.find_map(|(key, value)| (key == name).then_some(value))
        };
        let mut granted = json!({
            "access_token": self.token(AUDIENCE, OPERATOR, GRANTED),
            "token_type": "Bearer",
            "expires_in": GRANTED.as_secs(),
        });
        match field("grant_type") {
            Some("client_credentials") => {
                let known = format!("{}:{}", CLIENT.0, CLIENT.1);
                let known = format!("Basic {}", BASE64.encode(known));
                if client != known {
                    return Err("invalid_client");
                }
            }
            Some("refresh_token") => {
                let mut refreshed = self.refreshed.lock().expect("no answer panics");
                if field("refresh_token") != Some(&format!("refresh-{refreshed}")) {
                    return Err("invalid_grant");
                }
                *refreshed += 1;
                granted["refresh_token"] = json!(format!("refresh-{refreshed}"));
            }
            _ => return Err("unsupported_grant_type"),
        }
        Ok(granted)
    }
}
