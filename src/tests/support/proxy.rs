//! A TCP proxy that can drop or freeze connections, to simulate a server that is down or does not
//! respond for a while.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Cut,
    Frozen,
}

pub struct Proxy {
    pub addr: SocketAddr,
    state: watch::Sender<State>,
}

impl Proxy {
    /// Starts the proxy in front of `target`, a host and port.
    pub async fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, state) = watch::channel(State::Up);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target.clone(), state.clone()));
            }
        });
        Self { addr, state: sender }
    }

    /// Closes all connections, and each new one at once.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Keeps all connections open, and accepts new ones, but no byte passes.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    pub fn restore(&self) {
        self.state.send_replace(State::Up);
    }
}

/// Forwards bytes in both directions until the state changes. A frozen connection is closed when
/// the freeze ends.
async fn forward(mut client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let serve = async {
        let Ok(mut server) = TcpStream::connect(&target).await else { return };
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    };
    if *state.borrow_and_update() == State::Up {
        tokio::select! {
            () = serve => return,
            _ = state.wait_for(|state| *state != State::Up) => {}
        }
    }
    let _ = state.wait_for(|state| *state != State::Frozen).await;
}
