//! A way to a database: it can be cut, and led to another server.

use std::net::SocketAddr;

use anyhow::ensure;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::postgres::{Server, TestDatabase};

/// What is passed on at once, bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// See above. While it is cut bytes wait, and nobody hears of it.
pub struct Way {
    address: SocketAddr,
    end: watch::Sender<u16>,
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Way {
    /// One that leads to that server.
    pub async fn to(server: &Server) -> anyhow::Result<Way> {
        let (end, ends) = watch::channel(server.port());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, watching) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = SocketAddr::from(([127, 0, 0, 1], *ends.borrow()));
                tokio::spawn(pass(near, far, watching.clone()));
            }
        });
        Ok(Way { address, end, open, accepting })
    }

    /// From now on connections are made to that server.
    pub fn lead_to(&self, server: &Server) {
        self.end.send_replace(server.port());
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// All that waited passes, and what comes.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// The database as one sees it from the near end.
    pub fn url(&self, database: &TestDatabase) -> anyhow::Result<String> {
        let url = database.url();
        let port = format!(":{}/", database.server().port());
        ensure!(url.contains(&port), "{url} has no port");
        Ok(url.replace(&port, &format!(":{}/", self.address.port())))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(near: TcpStream, far: SocketAddr, open: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(far).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let there = one_way(near_in, far_out, open.clone());
    let back = one_way(far_in, near_out, open);
    tokio::join!(there, back);
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length) = from.read(&mut piece).await {
        // The end of a connection does not pass either while the way is cut.
        let way = open.wait_for(|open| *open).await.is_ok();
        if length == 0 || !way || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
