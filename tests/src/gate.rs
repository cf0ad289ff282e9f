//! A way to a server that can be shut without a sign: connections stay, but nothing gets through any more, as when a
//! network drops packets.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The gate; gone when dropped, and open until then unless it is shut.
pub struct Gate {
    address: String,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Leads to `server`, a host with its port.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (open, is_open) = watch::channel(true);
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, server.clone(), is_open.clone()));
            }
        });
        Self { address, open, task }
    }

    /// Host and port of this side.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on nothing gets through, in neither direction.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// What was held back and all that comes gets through.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when either side does; a side that goes away is no trouble of the gate's.
async fn pass(near: TcpStream, server: String, is_open: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(server).await else { return };
    let ((near_out, near_in), (far_out, far_in)) = (split(near), split(far));
    tokio::select! {
        _ = carry(near_out, far_in, is_open.clone()) => {}
        _ = carry(far_out, near_in, is_open) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut is_open: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 || is_open.wait_for(|open| *open).await.is_err() {
            return Ok(());
        }
        to.write_all(&chunk[..length]).await?;
    }
}
