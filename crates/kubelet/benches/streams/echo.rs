//! Echoes: what comes goes back. One for plain TCP, on loopback, where port-forwards
//! lead to; one behind an HTTP upgrade, where the API server proxies to.

use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Moved at once.
const CHUNK: usize = 64 << 10;

/// Ports of the two.
#[derive(Clone, Copy)]
pub struct Echoes {
    pub plain: u16,
    pub upgraded: u16,
}

impl Echoes {
    /// Until the program ends.
    pub async fn start(address: IpAddr) -> Self {
        Self {
            plain: listen(Ipv4Addr::LOCALHOST.into(), false).await,
            upgraded: listen(address, true).await,
        }
    }
}

async fn listen(address: IpAddr, upgraded: bool) -> u16 {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // Ends as the connection does, however that is.
            tokio::spawn(async move { serve(socket, upgraded).await });
        }
    });
    port
}

async fn serve(mut socket: TcpStream, upgraded: bool) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    if upgraded {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        socket.write_all(answer).await?;
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        match socket.read(&mut chunk).await? {
            0 => return Ok(()),
            length => socket.write_all(&chunk[..length]).await?,
        }
    }
}
