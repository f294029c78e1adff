//! RSA signatures (PKCS #1 v1.5) of SHA-1 hashes.
//!
//! Nothing new should be signed so. But it is what `CloudFront` has always taken, and the safe library
//! that we have makes such signatures no more. So this calls AWS-LC, which it stands on, itself.

use std::ffi::c_long;
use std::fmt;
use std::ptr::{self, NonNull};

use aws_lc_sys::{
    EVP_PKEY_free, EVP_PKEY_get1_RSA, NID_sha1, RSA, RSA_free, RSA_sign, RSA_size, SHA1,
    d2i_AutoPrivateKey,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// Bytes of a SHA-1 hash.
const HASH: usize = 20;

/// A private key of RSA.
pub struct PrivateKey(NonNull<RSA>);

/// What is wrong with a key. Nothing of the key is in the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("expected a private key in PEM (-----BEGIN RSA PRIVATE KEY-----), found none")]
    NoKey,
    /// It is something else.
    #[error("expected a private key of RSA, found one of another kind, or a damaged one")]
    NotRsa,
    /// It signs nothing.
    #[error("the private key can not sign: it is damaged, or too short")]
    Unusable,
}

// SAFETY: a key belongs to no thread.
unsafe impl Send for PrivateKey {}
// SAFETY: all that is done with a key is signing, which AWS-LC lets several threads do at the same
// time with the same key: what it keeps with the key is behind locks of its own.
unsafe impl Sync for PrivateKey {}

impl PrivateKey {
    /// The key in a PEM file, as PKCS #1 (`RSA PRIVATE KEY`) or PKCS #8 (`PRIVATE KEY`). It has been
    /// used once then.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| Error::NoKey)?;
        let key = Self::from_der(der.secret_der()).ok_or(Error::NotRsa)?;
        key.sign(b"a test")?;
        Ok(key)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let length = c_long::try_from(der.len()).ok()?;
        let mut start = der.as_ptr();
        // SAFETY: `start` points to `length` bytes, which outlive the call. Without a place for it the
        // key is only returned.
        let key = unsafe { d2i_AutoPrivateKey(ptr::null_mut(), &raw mut start, length) };
        let key = NonNull::new(key)?;
        // SAFETY: `key` is a key that was just returned, and is used no more after it was freed. What
        // is taken out of it has a reference of its own, which goes with `Self`. It is null where the
        // key is none of RSA.
        let rsa = unsafe {
            let rsa = EVP_PKEY_get1_RSA(key.as_ptr());
            EVP_PKEY_free(key.as_ptr());
            rsa
        };
        NonNull::new(rsa).map(Self)
    }

    /// The signature of a text.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        let mut hash = [0; HASH];
        // SAFETY: the function reads all of `text` and writes the 20 bytes of a hash.
        unsafe { SHA1(text.as_ptr(), text.len(), hash.as_mut_ptr()) };
        // SAFETY: the key lives as long as `self`.
        let size = unsafe { RSA_size(self.0.as_ptr()) };
        let mut signature = vec![0; usize::try_from(size).map_err(|_| Error::Unusable)?];
        let mut length = 0;
        // SAFETY: the function reads the hash and writes at most `RSA_size` bytes, for which there is
        // room, and their number. It does not change the key but behind its own locks.
        let done = unsafe {
            RSA_sign(
                NID_sha1,
                hash.as_ptr(),
                hash.len(),
                signature.as_mut_ptr(),
                &raw mut length,
                self.0.as_ptr(),
            )
        };
        signature.truncate(usize::try_from(length).map_err(|_| Error::Unusable)?);
        if done == 1 { Ok(signature) } else { Err(Error::Unusable) }
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and nobody has the pointer after this.
        unsafe { RSA_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(********)")
    }
}
