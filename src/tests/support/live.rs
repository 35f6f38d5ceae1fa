//! A running service on port 0 with a real S3 server behind it: the embedded one, or the
//! one that `TEST_S3_ENDPOINT` names.
