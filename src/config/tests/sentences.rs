//! The exact error messages.

use super::from_file;

/// A configuration file, and its error.
const CASES: &[(&str, &str)] = &[
    (
        "[nonsense]\nx = 1",
        "nonsense: unknown key; the keys here are auth, database, dialects, direct_upload, events, inspectors, limits, policies, reconcile, server, storage, telemetry, webhooks (in FILE)",
    ),
    (
        "[server]\nbnid = 1",
        "server.bnid: unknown key; the keys here are bind, cors_origins, drain_delay, public_url, require_marker, shutdown_timeout, start_timeout, tls (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_sise = 1",
        "policies.tracks.max_sise: unknown key; the keys here are allowed_content_types, allowed_extensions, grace, inspect, late, max_duration, max_pixels, max_put_duration, max_size, max_url_ttl, min_duration, move_retention, multipart_threshold, object, overwrite, part_size, prefix, reject_gps, rejected_retention, replaced_retention, store, unattached_retention, url_ttl, verify_max_read, write_once (in FILE)",
    ),
    (
        "[policies.tracks.object]\nacl = \"private\"",
        "policies.tracks.object.acl: unknown key; the keys here are cache_control, kms_key_id, sse, storage_class, tags (in FILE)",
    ),
    (
        "[policies.tracks]\nobject = \"AES256\"",
        "policies.tracks.object: must be a table of settings, not a value (in FILE)",
    ),
    (
        "[policies.tracks.object]\nsse = \"aes256\"",
        "policies.tracks.object.sse: must be \"\" or \"AES256\" or \"aws:kms\" or \"aws:kms:dsse\", not \"aes256\" (in FILE)",
    ),
    (
        "[policies.tracks.object]\nsse = \"AES256\"\nkms_key_id = \"key\"",
        "policies.tracks.object.kms_key_id: needs sse = \"aws:kms\" or \"aws:kms:dsse\" (in FILE)",
    ),
    (
        "[policies.tracks.object]\ncache_control = \"für immer\"",
        "policies.tracks.object.cache_control: must be printable ASCII of at most 1024 bytes (in FILE)",
    ),
    (
        "[policies.tracks.object]\nstorage_class = \"DEEP_ARCHIVE\"",
        "policies.tracks.object.storage_class: must be a class whose objects can be read at once, such as GLACIER_IR, not \"DEEP_ARCHIVE\" (in FILE)",
    ),
    (
        "[policies.tracks.object]\nstorage_class = \"cold\"",
        "policies.tracks.object.storage_class: must be a storage class such as \"STANDARD_IA\", not \"cold\" (in FILE)",
    ),
    (
        "[policies.tracks.object]\ntags = \"team=music\"",
        "policies.tracks.object.tags: must be a table of settings, not a value (in FILE)",
    ),
    (
        "[policies.tracks.object]\ntags = { \"aws:x\" = \"a\" }",
        "policies.tracks.object.tags: must be names of 1 to 128 and values of 0 to 256 letters, digits, spaces and + - = . _ : / @, and no name begins with aws:, not \"aws:x\" = \"a\" (in FILE)",
    ),
    (
        "[policies.tracks.object]\ntags = { a=1, b=1, c=1, d=1, e=1, f=1, g=1, h=1, i=1, j=1, k=1 }",
        "policies.tracks.object.tags: must be at most 10 tags, not 11 (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"embedded\"\n[policies.tracks.object]\nsse = \"AES256\"",
        "policies.tracks.object.sse: is not possible in storage.default, because the embedded store does not support it; omit it (in FILE)",
    ),
    (
        "[events]\ntoken = \"short\"",
        "events.token: must have 16 or more printable ASCII characters (in FILE)",
    ),
    ("[events]\nsqs = 1", "events.sqs: must be a table of settings, not a value (in FILE)"),
    ("[events]\nsns = 1", "events.sns: must be a table of settings, not a value (in FILE)"),
    ("[events]\nx = 1", "events.x: unknown key; the keys here are sns, sqs, token (in FILE)"),
    (
        "[events.sns]\ntopics = \"arn:aws:sns:eu-central-1:123456789012:uploads\"",
        "events.sns.topics: needs events.token, which is missing (in FILE)",
    ),
    (
        "[events.sns]\ntopics = [\"uploads\"]",
        "events.sns.topics: must be the ARNs of topics such as arn:aws:sns:eu-central-1:123456789012:uploads, not \"uploads\" (in FILE)",
    ),
    (
        "[events.sqs]\nurl = 1",
        "events.sqs.url: unknown key; the keys here are access_key_id, endpoint, pollers, queue_url, region, secret_access_key, session_token, visibility, wait (in FILE)",
    ),
    (
        "[events.sqs]\nqueue_url = \"uploads\"",
        "events.sqs.queue_url: must be a queue's URL such as https://sqs.eu-central-1.amazonaws.com/123456789012/uploads, not \"uploads\" (in FILE)",
    ),
    (
        "[events.sqs]\nqueue_url = \"https://sqs.eu-central-1.amazonaws.com\"",
        "events.sqs.queue_url: must be a queue's URL such as https://sqs.eu-central-1.amazonaws.com/123456789012/uploads, not \"https://sqs.eu-central-1.amazonaws.com\" (in FILE)",
    ),
    (
        "[events.sqs]\nendpoint = \"localhost\"",
        "events.sqs.endpoint: must be a URL such as https://sqs.example.com, not \"localhost\" (in FILE)",
    ),
    (
        "[events.sqs]\naccess_key_id = \"a\"",
        "events.sqs.secret_access_key: must be set together with access_key_id; omit both to use the standard AWS_* variables",
    ),
    (
        "[events.sqs]\nsession_token = \"a\"",
        "events.sqs.session_token: needs an access_key_id, which is missing (in FILE)",
    ),
    (
        "[events.sqs]\nwait = \"21s\"",
        "events.sqs.wait: must be from \"1s\" to \"20s\", not \"21s\" (in FILE)",
    ),
    (
        "[events.sqs]\nvisibility = \"5s\"",
        "events.sqs.visibility: must be from \"30s\" to \"12h\", not \"5s\" (in FILE)",
    ),
    ("[events.sqs]\npollers = 0", "events.sqs.pollers: must be from 1 to 32, not 0 (in FILE)"),
    (
        "[webhooks]\nretention = \"1s\"",
        "webhooks.retention: must be at least \"1h\", not \"1s\" (in FILE)",
    ),
    (
        "[telemetry]\nmetrics = \"perhaps\"",
        "telemetry.metrics: must be true or false, not \"perhaps\" (in FILE)",
    ),
    ("server = 1", "server: must be a table of settings, not a value (in FILE)"),
    (
        "[storage]\ndefault = 1",
        "storage.default: must be a table of settings, not a value (in FILE)",
    ),
    (
        "[storage.Big]\nbucket = \"b\"",
        "storage.Big: a name may contain only lower-case letters, digits, - and _ (in FILE)",
    ),
    (
        "[policies.\"a.b\"]\nprefix = \"b/\"",
        "policies.a.b: a name may contain only lower-case letters, digits, - and _",
    ),
    (
        "[server]\nbind = \"localhost\"",
        "server.bind: must be an address such as 127.0.0.1:8080, not \"localhost\" (in FILE)",
    ),
    (
        "[server]\nbind = [1]",
        "server.bind: must be an address such as 127.0.0.1:8080, not a list (in FILE)",
    ),
    (
        "[server.bind]\nhost = 1",
        "server.bind: must be an address such as 127.0.0.1:8080, not a section (in FILE)",
    ),
    (
        "[server]\nshutdown_timeout = 30",
        "server.shutdown_timeout: must be a duration such as \"90s\" or \"1h\", not \"30\" (in FILE)",
    ),
    (
        "[server]\nshutdown_timeout = \"-1s\"",
        "server.shutdown_timeout: must be a duration such as \"90s\" or \"1h\", not \"-1s\" (in FILE)",
    ),
    (
        "[server]\nshutdown_timeout = \"1000years\"",
        "server.shutdown_timeout: must be a duration such as \"90s\" or \"1h\", not \"1000years\" (in FILE)",
    ),
    (
        "[database]\nurl = \"mysql://u:secret@h/d\"",
        "database.url: must be a URL such as sqlite://data/upload-coordinator.db or postgres://user:password@host/database (in FILE)",
    ),
    (
        "[database]\nurl = \"postgres:///d\"",
        "database.url: must be a URL such as sqlite://data/upload-coordinator.db or postgres://user:password@host/database (in FILE)",
    ),
    (
        "[database]\nmax_connections = 0",
        "database.max_connections: must be at least 1, not 0 (in FILE)",
    ),
    (
        "[database]\nmax_connections = -1",
        "database.max_connections: must be a whole number, not \"-1\" (in FILE)",
    ),
    (
        "[database]\nmax_connections = true",
        "database.max_connections: must be a whole number, not \"true\" (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"S3\"",
        "storage.default.kind: must be \"s3\" or \"azure\" or \"embedded\", not \"S3\" (in FILE)",
    ),
    (
        "[storage.default]\nprobe = \"maybe\"",
        "storage.default.probe: must be true or false, not \"maybe\" (in FILE)",
    ),
    (
        "[storage.default]\npath_style = 7",
        "storage.default.path_style: must be true, false or \"auto\", not \"7\" (in FILE)",
    ),
    (
        "[storage.default]\nendpoint = \"minio:9000\"",
        "storage.default.endpoint: must be a URL such as https://s3.example.com, not \"minio:9000\" (in FILE)",
    ),
    (
        "[storage.default]\nendpoint = \"https://proxy.example.com/s3\"",
        "storage.default.endpoint: must be a URL without a path, because requests to it could not be signed, not \"https://proxy.example.com/s3\" (in FILE)",
    ),
    (
        "[storage.default]\npublic_endpoint = \"https://proxy.example.com/s3/\"",
        "storage.default.public_endpoint: must be a URL without a path, because requests to it could not be signed, not \"https://proxy.example.com/s3/\" (in FILE)",
    ),
    (
        "[storage.default]\nbucket = \"a b c\"",
        "storage.default.bucket: must be 3 to 63 letters, digits, dots, hyphens and underscores, not \"a b c\" (in FILE)",
    ),
    (
        "[storage.default]\naccess_key_id = \"k\"",
        "storage.default.secret_access_key: must be set together with access_key_id; omit both to use the standard AWS_* variables",
    ),
    (
        "[storage.default]\nsecret_access_key = \"k\"",
        "storage.default.access_key_id: must be set together with secret_access_key; omit both to use the standard AWS_* variables",
    ),
    (
        "[storage.default]\nsecret_access_key = { a = 1 }",
        "storage.default.secret_access_key: must be a text, not a section (in FILE)",
    ),
    (
        "[storage.default]\nsession_token = \"t\"",
        "storage.default.session_token: needs an access_key_id, which is missing (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"embedded\"\nendpoint = \"http://h\"",
        "storage.default.endpoint: is not for kind = \"embedded\", whose address is the setting bind (in FILE)",
    ),
    (
        "[storage.default]\naccount = \"mycompany\"",
        "storage.default.account: is only for kind = \"azure\" (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"azure\"\naccount = \"My-Company\"",
        "storage.default.account: must be the name of a storage account, 3 to 24 lower-case letters and digits, not \"My-Company\" (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"azure\"\nbucket = \"a--b\"",
        "storage.default.bucket: must be the name of a container, 3 to 63 lower-case letters, digits and single hyphens, not \"a--b\" (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"azure\"\naccess_key_id = \"k\"\nsecret_access_key = \"s\"",
        "storage.default.access_key_id: is only for kind = \"s3\"; for kind = \"azure\", set account and access_key (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"azure\"\n[policies.tracks.object]\nsse = \"aws:kms\"",
        "policies.tracks.object.sse: must be \"AES256\" or empty; a key of Azure Key Vault is a setting of the storage account (in FILE)",
    ),
    (
        "[storage.default]\nkind = \"azure\"\n[policies.tracks.object]\nstorage_class = \"STANDARD_IA\"",
        "policies.tracks.object.storage_class: must be \"HOT\", \"COOL\" or \"COLD\", Azure's access tiers (in FILE)",
    ),
    (
        "[storage.default]\nconnect_timeout = \"0s\"",
        "storage.default.connect_timeout: must be a duration above zero (in FILE)",
    ),
    (
        "[policies.tracks]\nstore = \"b\"",
        "policies.tracks.store: must be one of the stores default, not \"b\" (in FILE)",
    ),
    (
        "[policies.tracks]\nprefix = \"/a\"",
        "policies.tracks.prefix: must be a prefix such as \"tracks/\", not \"/a\": a prefix must end with `/` (in FILE)",
    ),
    (
        "[policies.videos]\nmax_size = 1",
        "policies.videos.prefix: is missing; set a prefix such as \"videos/\"",
    ),
    (
        "[policies.a]\nprefix = \"tracks/old/\"",
        "policies.a.prefix: \"tracks/old/\" overlaps \"tracks/\" of policies.tracks in the same bucket; choose another prefix (in FILE)",
    ),
    (
        "[policies.a]\nprefix = \"x/\"\n[policies.b]\nprefix = \"x/\"",
        "policies.b.prefix: \"x/\" overlaps \"x/\" of policies.a in the same bucket; choose another prefix (in FILE)",
    ),
    (
        "[policies.z]\nprefix = \"tracks/z/\"",
        "policies.z.prefix: \"tracks/z/\" overlaps \"tracks/\" of policies.tracks in the same bucket; choose another prefix (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_size = 0",
        "policies.tracks.max_size: must be a size from 1B to 5TiB, not 0B (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_size = \"6TiB\"",
        "policies.tracks.max_size: must be a size from 1B to 5TiB, not 6TiB (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_size = \"99999999EiB\"",
        "policies.tracks.max_size: must be a size such as \"64KiB\" or \"100MiB\", not \"99999999EiB\" (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_size = -1",
        "policies.tracks.max_size: must be a size such as \"64KiB\" or \"100MiB\", not \"-1\" (in FILE)",
    ),
    (
        "[policies.tracks]\nmultipart_threshold = \"6GiB\"",
        "policies.tracks.multipart_threshold: must be a size from 1B to 5GiB, not 6GiB (in FILE)",
    ),
    (
        "[policies.tracks]\npart_size = \"4MiB\"",
        "policies.tracks.part_size: must be a size from 5MiB to 5GiB, not 4MiB (in FILE)",
    ),
    (
        "[policies.tracks]\nurl_ttl = \"0s\"",
        "policies.tracks.url_ttl: must be whole seconds, at least \"1s\", not \"0s\" (in FILE)",
    ),
    (
        "[policies.tracks]\nurl_ttl = \"1500ms\"",
        "policies.tracks.url_ttl: must be whole seconds, at least \"1s\", not \"1s 500ms\" (in FILE)",
    ),
    (
        "[policies.tracks]\nurl_ttl = \"25h\"",
        "policies.tracks.url_ttl: must be at most max_url_ttl, \"24h\", not \"25h\" (in FILE)",
    ),
    (
        "[policies.tracks]\nmove_retention = \"4min\"",
        "policies.tracks.move_retention: must be at least \"5min\", as long as a download URL lives, not \"4min\" (in FILE)",
    ),
    (
        "[policies.tracks]\nmove_retention = \"off\"",
        "policies.tracks.move_retention: must be a duration such as \"48h\", or \"auto\", not \"off\" (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_url_ttl = \"8d\"",
        "policies.tracks.max_url_ttl: must be at most \"7d\", the maximum lifetime of a presigned URL, not \"8d\" (in FILE)",
    ),
    (
        "[policies.tracks]\nlate = \"maybe\"",
        "policies.tracks.late: must be \"accept\" or \"reject\", not \"maybe\" (in FILE)",
    ),
    (
        "[policies.tracks]\nallowed_extensions = [\".mp3\"]",
        "policies.tracks.allowed_extensions: must be extensions such as \"mp3\", without the dot, not \".mp3\" (in FILE)",
    ),
    (
        "[policies.tracks]\nallowed_extensions = { a = 1 }",
        "policies.tracks.allowed_extensions: must be a list such as [\"mp3\", \"ogg\"], not a section (in FILE)",
    ),
    (
        "[policies.tracks]\nallowed_content_types = \"mp3\"",
        "policies.tracks.allowed_content_types: must be media types such as \"audio/mpeg\", not \"mp3\" (in FILE)",
    ),
    (
        "[reconcile]\nschedule = \"* * * * *\"",
        "reconcile.schedule: must be a cron expression with seconds such as \"0 * * * * *\", or \"off\", not \"* * * * *\" (in FILE)",
    ),
    (
        "[reconcile]\naudit_schedule = \"0 61 * * * *\"",
        "reconcile.audit_schedule: must be a cron expression with seconds such as \"0 * * * * *\", or \"off\", not \"0 61 * * * *\" (in FILE)",
    ),
    (
        "[reconcile]\nlease = \"10ms\"",
        "reconcile.lease: must be at least \"1s\", not \"10ms\" (in FILE)",
    ),
    (
        "[reconcile]\ndamage_max = 1000000001",
        "reconcile.damage_max: must be from 0 to 1000000000, not 1000000001 (in FILE)",
    ),
    (
        "[reconcile]\ndamage_ratio = 1.5",
        "reconcile.damage_ratio: must be from 0 to 1, not 1.5 (in FILE)",
    ),
    (
        "[reconcile]\ndamage_ratio = \"1%\"",
        "reconcile.damage_ratio: must be a number, not \"1%\" (in FILE)",
    ),
    (
        "[reconcile]\nconcurrency = 0",
        "reconcile.concurrency: must be from 1 to 1000, not 0 (in FILE)",
    ),
    (
        "[reconcile]\npage_size = 1001",
        "reconcile.page_size: must be from 1 to 1000, not 1001 (in FILE)",
    ),
    (
        "[auth]\nmode = \"token\"",
        "auth.mode: must be \"none\" or \"api_key\" or \"jwt\" or \"api_key_or_jwt\", not \"token\" (in FILE)",
    ),
    (
        "[direct_upload]\npart_size = \"1MiB\"",
        "direct_upload.part_size: must be a size from 5MiB to 5GiB, not 1MiB (in FILE)",
    ),
    (
        "[auth]\nmode = \"jwt\"",
        "auth.jwt.algorithms: must be a list with one or more of RS256, ES256, EdDSA and HS256",
    ),
    (
        "[auth]\nmode = \"jwt\"\n[auth.jwt]\nalgorithms = [\"none\"]",
        "auth.jwt.algorithms: must be a list with one or more of RS256, ES256, EdDSA and HS256 (in FILE)",
    ),
    (
        "[auth]\nmode = \"jwt\"\n[auth.jwt]\nalgorithms = [\"HS256\"]\nsecret = \"short\"",
        "auth.jwt.secret: must have 32 bytes or more for HS256 (in FILE)",
    ),
    (
        "[auth]\nmode = \"jwt\"\n[auth.jwt]\nalgorithms = [\"RS256\"]\njwks = \"http://id.example.com/k\"",
        "auth.jwt.jwks: must be an https URL, because with plain http an attacker can replace the \
        keys; auth.jwt.allow_http = true allows it (in FILE)",
    ),
    (
        "[server]\ncors_origins = [\"https://app.example.com/\"]",
        "server.cors_origins: must be a list of origins such as https://app.example.com, or \"*\", not \"https://app.example.com/\" (in FILE)",
    ),
    (
        "[server]\npublic_url = \"uploads.example.com\"",
        "server.public_url: must be a URL such as https://uploads.example.com, not \"uploads.example.com\" (in FILE)",
    ),
    (
        "[server]\npublic_url = \"https://uploads.example.com/?a=b\"",
        "server.public_url: must be a URL such as https://uploads.example.com, not \"https://uploads.example.com/?a=b\" (in FILE)",
    ),
    (
        "[server.tls]\ncert = \"a.pem\"",
        "server.tls.key: must be set to the private key of server.tls.cert",
    ),
    (
        "[limits]\nrequests_per_second = -5",
        "limits.requests_per_second: must be a whole number, not \"-5\" (in FILE)",
    ),
    (
        "[limits]\nwaiters_per_owner = -1",
        "limits.waiters_per_owner: must be a whole number, not \"-1\" (in FILE)",
    ),
    (
        "[limits]\ndirect_uploads_per_owner = \"some\"",
        "limits.direct_uploads_per_owner: must be a whole number, not \"some\" (in FILE)",
    ),
    (
        "[limits]\njson_body = 1",
        "limits.json_body: must be a size from 1KiB to 64MiB, not 1B (in FILE)",
    ),
    (
        "[limits]\nrequest_timeout = \"0s\"",
        "limits.request_timeout: must be a duration above zero (in FILE)",
    ),
    (
        "[telemetry]\nlog_format = \"xml\"",
        "telemetry.log_format: must be \"pretty\" or \"json\", not \"xml\" (in FILE)",
    ),
    (
        "[dialects.companion]\npolicy = \"nope\"",
        "dialects.companion.policy: must be one of the policies tracks, not \"nope\" (in FILE)",
    ),
    (
        "[dialects.form]\nurl_ttl = \"30d\"",
        "dialects.form.url_ttl: must be from 1s to max_url_ttl of the policy `tracks`, which is 24h (in FILE)",
    ),
    (
        "[policies.tracks]\ninspect = [\"clamav\"]",
        "policies.tracks.inspect: must contain only names of inspectors (media), not \"clamav\" (in FILE)",
    ),
    (
        "[policies.tracks]\ninspect = [\"media\", \"media\"]",
        "policies.tracks.inspect: names \"media\" twice (in FILE)",
    ),
    (
        "[policies.tracks]\ninspect = [\"media\"]\noverwrite = \"accept\"",
        "policies.tracks.overwrite: must be \"reject\" in a policy with inspectors; otherwise a file could be served that no inspector has examined (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_duration = \"5min\"",
        "policies.tracks.max_duration: has no effect without \"media\" in inspect (in FILE)",
    ),
    (
        "[policies.tracks]\nreject_gps = true",
        "policies.tracks.reject_gps: has no effect without \"media\" in inspect (in FILE)",
    ),
    (
        "[policies.tracks]\ninspect = [\"media\"]\nmin_duration = \"2min\"\nmax_duration = \"1min\"",
        "policies.tracks.min_duration: must be at most max_duration, \"1min\", not \"2min\" (in FILE)",
    ),
    (
        "[policies.tracks]\nmax_pixels = 0",
        "policies.tracks.max_pixels: must be a whole number above zero, or \"off\", not \"0\" (in FILE)",
    ),
    ("[inspectors.a]\nurl = \"x\"", "inspectors.a.kind: is missing; set \"clamd\" or \"http\""),
    (
        "[inspectors.a]\nkind = \"virus\"",
        "inspectors.a.kind: must be \"clamd\" or \"http\" or \"media\", not \"virus\" (in FILE)",
    ),
    (
        "[inspectors.a]\nkind = \"media\"",
        "inspectors.a.kind: is only for the built-in inspector `media`; use \"clamd\" or \"http\" (in FILE)",
    ),
    (
        "[inspectors.media]\nkind = \"http\"",
        "inspectors.media.kind: must be \"media\" for the built-in inspector; choose another name (in FILE)",
    ),
    (
        "[inspectors.media]\non_error = \"hold\"",
        "inspectors.media.on_error: must be \"accept\" or \"reject\" for the built-in inspector, which is part of the verification (in FILE)",
    ),
    (
        "[inspectors.a]\nkind = \"clamd\"\naddress = \"clamd.ctl\"",
        "inspectors.a.address: must be host:port or unix:/path, for example \"127.0.0.1:3310\" or \"unix:/run/clamav/clamd.ctl\" (in FILE)",
    ),
    (
        "[inspectors.a]\nkind = \"clamd\"\naddress = \"localhost:3310\"\nurl = \"http://a\"",
        "inspectors.a.url: is only for kind = \"http\" (in FILE)",
    ),
    (
        "[inspectors.a]\nkind = \"http\"\nurl = \"http://127.0.0.1/x\"",
        "inspectors.a.url: 127.0.0.1 is a private address, and requests are sent only to public addresses; webhooks.allow_private = true allows it (in FILE)",
    ),
    (
        "[inspectors.a]\nkind = \"http\"\nurl = \"https://a.example/x\"",
        "inspectors.a.secret: must be whsec_ and the base64 of 24 to 64 random bytes",
    ),
    (
        "[inspectors.media]\ntimeout = \"2h\"",
        "inspectors.media.timeout: must be above zero and at most \"1h\", not \"2h\" (in FILE)",
    ),
    (
        "[inspectors.media]\ndeadline = \"8d\"",
        "inspectors.media.deadline: must be from the timeout up to \"7d\", not \"8d\" (in FILE)",
    ),
    (
        "[inspectors.media]\nmax_size = \"0B\"",
        "inspectors.media.max_size: must be a size from 1B to 5TiB, not 0B (in FILE)",
    ),
    (
        "[inspectors.media]\nconcurrency = 0",
        "inspectors.media.concurrency: must be from 1 to 256, not 0 (in FILE)",
    ),
    (
        "[telemetry]\notlp_endpoint = \"localhost:4318\"",
        "telemetry.otlp_endpoint: must be a URL such as \"http://localhost:4318\", not \"localhost:4318\" (in FILE)",
    ),
    (
        "[telemetry]\nlog = \"a=b=c\"",
        "telemetry.log: must be log directives such as \"info\" or \"info,upload_coordinator=debug\", not \"a=b=c\" (in FILE)",
    ),
    (
        "[server]\n\nbind = \n",
        "FILE: is not TOML: string values must be quoted, expected literal string, in line 3",
    ),
];

#[test]
fn every_error_is_one_sentence_that_names_the_key() {
    let mut wrong = Vec::new();
    for (text, sentence) in CASES.iter().copied() {
        match from_file(text) {
            Err(error) if error.to_string() == sentence => {}
            other => wrong.push((text, other.map_err(|error| error.to_string()).err())),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
