//! An OpenID Connect issuer: one key, its discovery document, and tokens for
//! whoever asks in this process.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// Longer than any test.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A client that connects and says nothing must not hold up the others.
const SILENCE: Duration = Duration::from_secs(5);

const KEY_ID: &str = "test";

/// A listening issuer; it ends with its handle.
pub struct Oidc {
    url: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever hangs up early asks again.
                let _ = answer(&stream, &discovery, &keys);
            }
        });
        Self {
            url,
            key,
            random,
            over,
            thread: Some(thread),
        }
    }

    /// The issuer's address and name.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A token for `audience` of a user who has this role, and its name.
    pub fn token(&self, audience: &str, role: &str) -> String {
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
            "exp": now + LIFETIME.as_secs(),
        });
        let encode = |value: &Value| BASE64URL.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .expect("the system has random numbers");
        format!("{signed}.{}", BASE64URL.encode(signature))
    }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread; if that fails, it ends with the process.
        let woken = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: &TcpStream, discovery: &Value, keys: &Value) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = match request.split(' ').nth(1) {
        Some("/.well-known/openid-configuration") => ("200 OK", discovery.to_string()),
        Some("/keys") => ("200 OK", keys.to_string()),
        _ => ("404 Not Found", "{}".to_owned()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}
