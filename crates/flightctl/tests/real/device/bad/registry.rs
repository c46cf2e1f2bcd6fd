//! A registry that has nothing, on the device's own loopback.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use crate::machine::{Machine, SHARED};

/// Of the device alone: it has a network of its own.
pub const REGISTRY: &str = "127.0.0.1:5000";
/// Its port, which nobody else has there.
pub const PORT: u16 = 5000;
/// Whatever is asked for below it wants credentials.
pub const PRIVATE: &str = "private";

/// The device's way to it. Without TLS, as registries of a site often are.
const UNITS: &str = "
cat >/etc/systemd/system/registry.socket <<END
[Socket]
ListenStream=ADDRESS
END
cat >/etc/systemd/system/registry.service <<END
[Service]
ExecStart=/usr/lib/systemd/systemd-socket-proxyd SHARED/registry.sock
END
mkdir -p /etc/containers/registries.conf.d
cat >/etc/containers/registries.conf.d/site.conf <<END
[[registry]]
location = \"ADDRESS\"
insecure = true
END
systemctl daemon-reload
systemctl start registry.socket
";

/// Answers until dropped.
pub fn start(machine: &Machine) -> AbortOnDropHandle<()> {
    let listener = UnixListener::bind(machine.shared().join("registry.sock")).unwrap();
    let units = UNITS.replace("ADDRESS", REGISTRY).replace("SHARED", SHARED);
    tokio::task::block_in_place(|| machine.ok(&["sh", "-ec", &units]));
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that goes away asks nothing more.
            tokio::spawn(serve(client));
        }
    }))
}

/// One request of a connection: that is enough of HTTP for a client that asks again.
async fn serve(client: UnixStream) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut request = String::new();
    client.read_line(&mut request).await?;
    let mut line = String::new();
    while client.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    client.write_all(answer(path).as_bytes()).await?;
    client.shutdown().await
}

/// In the words of the distribution specification.
fn answer(path: &str) -> String {
    let (status, code, message) = if path == "/v2/" {
        ("200 OK", "", "")
    } else if path.starts_with(&format!("/v2/{PRIVATE}/")) {
        (
            "401 Unauthorized",
            "UNAUTHORIZED",
            "authentication required",
        )
    } else {
        ("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown")
    };
    let body = match code {
        "" => "{}".to_owned(),
        _ => serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string(),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         WWW-Authenticate: Basic realm=\"site\"\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
