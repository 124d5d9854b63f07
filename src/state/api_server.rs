//! What is known of the API server itself.

use parking_lot::RwLock;
use targetgate_core::drain::ServerVersion;

/// The API server, as it last told its version.
#[derive(Debug, Default)]
pub struct ApiServer(RwLock<Option<ServerVersion>>);

impl ApiServer {
    /// Its version; `None` until it has told it.
    pub fn version(&self) -> Option<ServerVersion> {
        *self.0.read()
    }

    /// Takes in its version. Returns the former one.
    pub fn told(&self, version: ServerVersion) -> Option<ServerVersion> {
        self.0.write().replace(version)
    }
}
