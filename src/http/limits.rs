//! How many requests one person may make: a bucket that refills with time (`limits.requests_per_minute_max`).

use super::error::ApiError;
use hone_domain::ids::UserId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The buckets; as many as there are people.
#[derive(Debug)]
pub struct RateLimit {
    per_minute: f64,
    buckets: Mutex<HashMap<UserId, (f64, Instant)>>,
}

impl RateLimit {
    /// So many requests per person and minute, all at once or spread.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: f64::from(per_minute.max(1)), buckets: Mutex::default() }
    }

    /// Takes one request out of a person's bucket.
    ///
    /// # Errors
    /// When it is empty: 429, with the time until there is one again.
    pub fn take(&self, user: &UserId, now: Instant) -> Result<(), ApiError> {
        let per_second = self.per_minute / 60.0;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = buckets.entry(user.clone()).or_insert((self.per_minute, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * per_second).min(self.per_minute);
        *since = now;
        if *left < 1.0 {
            let seconds = ((1.0 - *left) / per_second).ceil().max(1.0);
            return Err(ApiError::rate_limited(seconds as u64));
        }
        *left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_empty_bucket_refills_with_time() {
        let limit = RateLimit::new(60);
        let (ann, bob, now) = (UserId::from_raw("ann"), UserId::from_raw("bob"), Instant::now());
        assert!((0..60).all(|_| limit.take(&ann, now).is_ok()));
        assert!(limit.take(&ann, now).is_err());
        assert!(limit.take(&bob, now).is_ok(), "each person has their own");
        assert!(limit.take(&ann, now + Duration::from_millis(1001)).is_ok());
        assert!(limit.take(&ann, now + Duration::from_millis(1001)).is_err());
    }
}
