//! The narrow waist: Desired, Observed, and the Plan between them.
