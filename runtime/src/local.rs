//! Unix sockets between the processes of one appliance.

use std::io;
use std::path::Path;

use tokio::net::UnixListener;

/// Opens the socket. One that was left by a process that died is taken over; one that is answered
/// is somebody else's.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}
