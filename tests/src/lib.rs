//! Tests over the whole of Gosset: what they share.

mod binary;
pub mod calls;
pub mod session;

pub use binary::gosset_binary;
