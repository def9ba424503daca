//! Connecting as an identity.

use countersign_client::Client;

use crate::args::Connection;
use crate::exit::Failure;
use crate::identity::Identity;

/// Reads the identity and connects with it.
pub(crate) async fn connect(connection: &Connection) -> Result<(Identity, Client), Failure> {
    let identity = Identity::read(&connection.identity)?;
    let client = Client::connect(identity.client_config(&connection.server)).await?;
    Ok((identity, client))
}
