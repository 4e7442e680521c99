//! Tests over the whole of Gosset: what they share.

mod binary;
pub mod bits;
pub mod calls;
pub mod cluster;
pub mod place;
pub mod programme;
pub mod session;
pub mod table;
pub mod welch;

pub use binary::gosset_binary;
