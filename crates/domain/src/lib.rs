//! Types with meaning and no IO: ids, messages, rankings, policies, and the Engine trait.
