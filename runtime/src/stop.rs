//! The order to stop, as those who wait for it see it.

use tokio::sync::watch;

/// Fires once, for everyone who holds a copy.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Gives the order. Dropping it gives it too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// A fresh pair.
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Returns when the order was given.
    pub async fn ordered(&mut self) {
        // An error means that nobody is left to give it, which says the same.
        let _ = self.0.wait_for(|ordered| *ordered).await;
    }

    /// Whether it was given.
    pub fn is_ordered(&self) -> bool {
        *self.0.borrow()
    }
}

impl Stopper {
    /// Gives it.
    pub fn order(&self) {
        self.0.send_replace(true);
    }
}
