//! A fleet of servers as scrapes show it: what series a host has, and how their values move. The shapes of
//! `../shared/bench/model.py` and `targets.py`: a node exporter, an HTTP service with classic histograms, a runtime,
//! containers and what a cluster says of them.

use std::fmt::Write;

use tsdbctl_model::Labels;

const BUCKETS: [(&str, f64); 12] = [
    ("0.005", 0.18),
    ("0.01", 0.35),
    ("0.025", 0.62),
    ("0.05", 0.78),
    ("0.1", 0.88),
    ("0.25", 0.951),
    ("0.5", 0.978),
    ("1.0", 0.99),
    ("2.5", 0.9964),
    ("5.0", 0.9991),
    ("10.0", 0.9999),
    ("+Inf", 1.0),
];
const MEMORY: &str = "MemFree MemAvailable Buffers Cached Active Inactive Active_anon Inactive_anon Active_file \
    Inactive_file Dirty Writeback_tmp AnonPages Mapped Shmem Slab SReclaimable SUnreclaim KernelStack PageTables \
    Committed_AS";
const MEMORY_CONSTANT: &str = "MemTotal SwapTotal SwapFree SwapCached Unevictable Mlocked NFS_Unstable Bounce \
    CommitLimit VmallocTotal HugePages_Total HugePages_Free Hugepagesize DirectMap4k DirectMap2M";
const NETWORK: &str = "receive_bytes transmit_bytes receive_packets transmit_packets receive_drop transmit_drop \
    receive_errs transmit_errs receive_fifo transmit_fifo receive_multicast transmit_colls";
const DISK: [(&str, Kind, f64); 12] = [
    ("read_bytes", Kind::Integer, 6e6),
    ("written_bytes", Kind::Integer, 6e6),
    ("reads_completed", Kind::Integer, 260.0),
    ("writes_completed", Kind::Integer, 260.0),
    ("read_time_seconds", Kind::Milliseconds, 900.0),
    ("write_time_seconds", Kind::Milliseconds, 900.0),
    ("io_time_seconds", Kind::Milliseconds, 900.0),
    ("io_time_weighted_seconds", Kind::Milliseconds, 900.0),
    ("reads_merged", Kind::Integer, 260.0),
    ("writes_merged", Kind::Integer, 260.0),
    ("discards_completed", Kind::Constant, 0.0),
    ("flush_requests", Kind::Integer, 260.0),
];
const HANDLERS: [&str; 8] = [
    "/api/v1/query",
    "/api/v1/query_range",
    "/login",
    "/checkout",
    "/cart",
    "/search",
    "/static/app.js",
    "/metrics",
];
const IMAGES: [&str; 4] = [
    "registry.example.com/shop/frontend:v1.42.3",
    "registry.example.com/shop/cart@sha256:9f8c1b0d7aa1",
    "registry.example.com/infra/envoy:v1.27.0",
    "registry.example.com/data/etl-worker:2024.06.1",
];
const NAMESPACES: [&str; 6] = ["default", "shop-prod", "shop-staging", "monitoring", "kube-system", "data"];
const APPS: [&str; 8] =
    ["frontend", "cart", "checkout", "envoy", "etl-worker", "payments", "recommendations", "auth"];
const PHASES: [&str; 5] = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];

/// A generator of numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn hash(parts: &[&dyn std::fmt::Display]) -> u64 {
    let mut text = String::new();
    for part in parts {
        let _ = write!(text, "{part}\0");
    }
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for byte in text.bytes() {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (h ^ h >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

/// How the values of a series move and are written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Never.
    Constant,
    /// A counter of whole numbers, by its rate.
    Integer,
    /// A bucket: its rate is the histogram's times its share.
    Bucket(f64, u64),
    /// Seconds of a counter of hundredths.
    Hundredths,
    /// Seconds of a counter of thousandths.
    Milliseconds,
    /// Seconds of a counter of nanoseconds.
    Nanoseconds,
    /// A sum with all its digits.
    Sum,
    /// A gauge of whole numbers.
    Gauge,
    /// A load, two digits.
    Load,
    /// A temperature, one digit.
    Temperature,
    /// The time.
    Clock,
    /// A gauge with all its digits.
    Full,
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Whole,
    Digits(usize),
    /// Twelve that mean something.
    Significant,
}

#[derive(Clone, Copy, Debug)]
struct Motion {
    form: Form,
    base: f64,
    rate: f64,
    jitter: f64,
}

impl Motion {
    fn of(kind: Kind, a: f64, seed: u64) -> Self {
        let r = Random::new(seed).unit();
        let (form, base, rate, jitter) = match kind {
            Kind::Constant => (Form::Whole, a, 0.0, 0.0),
            Kind::Integer => (Form::Whole, r * a * 1e4, a, a * 0.3),
            Kind::Bucket(share, series) => {
                let r = Random::new(series).unit();
                (Form::Whole, r * a * 1e3 * share, a * share, a * share * 0.4)
            }
            Kind::Hundredths => (Form::Digits(2), r * a * 1e3, a / 100.0, a / 400.0),
            Kind::Milliseconds => (Form::Digits(3), r * a * 1e2, a / 1e3, a / 3e3),
            Kind::Nanoseconds => (Form::Digits(9), r * 1e4, a / 1e9, a / 3e9),
            Kind::Sum => (Form::Significant, r * a * 1e4, a, a * 0.4),
            Kind::Gauge => (Form::Whole, a * 0.5, 0.0, (a * 0.01).max(2.0)),
            Kind::Load => (Form::Digits(2), a / 100.0, 0.0, a / 1e3),
            Kind::Temperature => (Form::Digits(1), a / 10.0, 0.0, 0.5),
            Kind::Clock => (Form::Digits(7), 1.7e9, 15.0, 0.01),
            Kind::Full => (Form::Significant, a, 0.0, a * 0.05),
        };
        Self { form, base, rate, jitter }
    }

    fn is_constant(&self) -> bool {
        self.rate == 0.0 && self.jitter == 0.0
    }

    fn exact(&self, step: u64, random: &mut Random) -> f64 {
        self.base + self.rate * step as f64 + self.jitter * random.unit()
    }

    fn write(&self, v: f64, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let _ = match self.form {
            Form::Whole => write!(out, "{}", v as i64),
            Form::Digits(n) => write!(out, "{v:.n$}"),
            Form::Significant => {
                let digits = 11 - v.abs().log10().floor().clamp(-20.0, 11.0) as i64;
                let start = out.len();
                let result = write!(out, "{:.*}", digits.max(0) as usize, v);
                if digits > 0 {
                    while out.len() > start && out.last() == Some(&b'0') {
                        out.pop();
                    }
                    if out.last() == Some(&b'.') {
                        out.pop();
                    }
                }
                result
            }
        };
    }

    /// The value as it is read from what is written.
    fn rounded(&self, v: f64, scratch: &mut Vec<u8>) -> f64 {
        match self.form {
            Form::Whole => v as i64 as f64,
            Form::Digits(n) if n < 4 => {
                let scale = 10f64.powi(n as i32);
                (v * scale).round() / scale
            }
            _ => {
                scratch.clear();
                self.write(v, scratch);
                std::str::from_utf8(scratch).ok().and_then(|text| text.parse().ok()).unwrap_or(v)
            }
        }
    }
}

struct Series {
    family: String,
    metric_type: &'static str,
    name: String,
    /// Without those of the target.
    labels: Vec<(&'static str, String)>,
    motion: Motion,
}

impl Series {
    fn rendered(&self) -> String {
        let parts: Vec<String> = self.labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        parts.join(",")
    }
}

struct Host {
    number: usize,
    series: Vec<Series>,
}

impl Host {
    fn add(&mut self, family: &str, name: &str, labels: &[(&'static str, &str)], kind: Kind, a: f64) {
        let metric_type = match () {
            () if name.ends_with("_total") => "counter",
            () if family != name => "histogram",
            () => "gauge",
        };
        let labels: Vec<(&'static str, String)> = labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let seed = hash(&[&self.number, &name, &labels.len(), &labels.last().map_or("", |l| l.1.as_str())]);
        let motion = Motion::of(kind, a, seed);
        self.series.push(Series {
            family: family.to_owned(),
            metric_type,
            name: name.to_owned(),
            labels,
            motion,
        });
    }

    fn gauge(&mut self, name: &str, labels: &[(&'static str, &str)], kind: Kind, a: f64) {
        self.add(name, name, labels, kind, a);
    }

    fn counter(&mut self, name: &str, labels: &[(&'static str, &str)], kind: Kind, a: f64) {
        let total = format!("{name}_total");
        self.add(&total, &total, labels, kind, a);
    }

    fn node(&mut self, scale: usize) {
        let i = self.number;
        for cpu in 0..4 * scale {
            for (mode, rate) in [
                ("idle", 1300.0),
                ("user", 140.0),
                ("system", 45.0),
                ("iowait", 6.0),
                ("softirq", 3.0),
                ("nice", 0.0),
                ("irq", 0.0),
                ("steal", 0.3),
            ] {
                let kind = if rate > 0.0 { Kind::Hundredths } else { Kind::Constant };
                self.counter("node_cpu_seconds", &[("cpu", &cpu.to_string()), ("mode", mode)], kind, rate);
            }
        }
        for (list, kind) in [(MEMORY, Kind::Gauge), (MEMORY_CONSTANT, Kind::Constant)] {
            for f in list.split_whitespace() {
                let bytes = (hash(&[&f]) % 64 + 1) as f64 * 268_435_456.0;
                self.gauge(&format!("node_memory_{f}_bytes"), &[], kind, bytes);
            }
        }
        for device in ["nvme0n1", "nvme1n1", "sda"] {
            let busy = device != "sda";
            for (f, kind, rate) in DISK {
                let still = kind == Kind::Constant || (!busy && !hash(&[&device, &f]).is_multiple_of(3));
                let (kind, rate) = if still { (Kind::Constant, 0.0) } else { (kind, rate) };
                let rate = if busy { rate } else { rate * 0.02 };
                self.counter(&format!("node_disk_{f}"), &[("device", device)], kind, rate);
            }
        }
        let veth = format!("veth{:07x}", hash(&[&i, &"veth"]) & 0xfff_ffff);
        for device in ["eth0", "lo", &veth, "docker0"] {
            for f in NETWORK.split_whitespace() {
                let busy = (f.ends_with("_bytes") || f.ends_with("_packets")) && device != "docker0";
                let rate = if f.contains("packets") { 9e4 } else { 7e7 };
                let (kind, rate) = if busy { (Kind::Integer, rate) } else { (Kind::Constant, 0.0) };
                self.counter(&format!("node_network_{f}"), &[("device", device)], kind, rate);
            }
        }
        for (mount, device) in
            [("/", "/dev/nvme0n1p1"), ("/var/lib/docker", "/dev/nvme1n1"), ("/boot/efi", "/dev/nvme0n1p15")]
        {
            let labels = [("device", device), ("fstype", "ext4"), ("mountpoint", mount)];
            for (f, moves, a) in [
                ("size_bytes", false, 4e11),
                ("avail_bytes", true, 4e11),
                ("free_bytes", true, 4e11),
                ("files", false, 3e7),
                ("files_free", true, 3e7),
                ("readonly", false, 0.0),
            ] {
                let kind = if moves && mount != "/boot/efi" { Kind::Gauge } else { Kind::Constant };
                self.gauge(&format!("node_filesystem_{f}"), &labels, kind, a);
            }
        }
        for (f, a) in [("node_load1", 180.0), ("node_load5", 160.0), ("node_load15", 150.0)] {
            self.gauge(f, &[], Kind::Load, a);
        }
        for sensor in 0..2 * scale {
            let sensor = format!("temp{}", sensor + 1);
            let labels = [("chip", "pci0000:00_0000:00:18_3"), ("sensor", &*sensor)];
            self.gauge("node_hwmon_temp_celsius", &labels, Kind::Temperature, 430.0);
        }
        for (f, kind, a) in [
            ("node_boot_time_seconds", Kind::Constant, 1.69e9),
            ("node_time_seconds", Kind::Clock, 0.0),
            ("node_procs_running", Kind::Gauge, 4.0),
            ("node_procs_blocked", Kind::Gauge, 1.0),
            ("node_entropy_available_bits", Kind::Constant, 256.0),
            ("node_filefd_allocated", Kind::Gauge, 3000.0),
            ("node_filefd_maximum", Kind::Constant, 9.2e18),
            ("node_nf_conntrack_entries", Kind::Gauge, 900.0),
            ("node_sockstat_TCP_inuse", Kind::Gauge, 80.0),
            ("node_sockstat_TCP_tw", Kind::Gauge, 120.0),
            ("node_sockstat_sockets_used", Kind::Gauge, 600.0),
            ("node_timex_offset_seconds", Kind::Full, 1e-5),
            ("node_timex_frequency_adjustment_ratio", Kind::Full, 1.0),
        ] {
            self.gauge(f, &[], kind, a);
        }
        for (f, rate) in [
            ("node_context_switches", 1.1e5),
            ("node_intr", 6e4),
            ("node_forks", 40.0),
            ("node_vmstat_pgfault", 2e4),
            ("node_vmstat_pgmajfault", 0.4),
            ("node_netstat_Tcp_InSegs", 5e4),
            ("node_netstat_Tcp_OutSegs", 6e4),
            ("node_netstat_Tcp_RetransSegs", 3.0),
            ("node_netstat_Udp_InDatagrams", 300.0),
        ] {
            self.counter(f, &[], Kind::Integer, rate * 15.0);
        }
        let host = host_name(i);
        let labels = [
            ("domainname", "(none)"),
            ("machine", "x86_64"),
            ("nodename", &host),
            ("release", "5.10.0-28-cloud-amd64"),
            ("sysname", "Linux"),
            ("version", "#1 SMP Debian 5.10.209-2 (2024-01-31)"),
        ];
        self.gauge("node_uname_info", &labels, Kind::Constant, 1.0);
        for c in "cpu diskstats filesystem loadavg meminfo netdev netstat stat uname vmstat".split(' ') {
            self.gauge("node_scrape_collector_success", &[("collector", c)], Kind::Constant, 1.0);
            self.gauge("node_scrape_collector_duration_seconds", &[("collector", c)], Kind::Full, 0.004);
        }
    }

    fn service(&mut self, scale: usize) {
        let family = "http_request_duration_seconds";
        for handler in &HANDLERS[..(3 * scale).min(HANDLERS.len())] {
            for code in ["200", "500"] {
                let method = if hash(&[handler]).is_multiple_of(3) { "POST" } else { "GET" };
                let labels = [("code", code), ("handler", *handler), ("method", method)];
                let share = if code == "200" { 1.0 } else { 0.004 };
                let series = hash(&[handler, &code, &self.number]);
                let rate = (series % 900 + 50) as f64 * share;
                for (le, q) in BUCKETS {
                    let labels = [labels[0], labels[1], labels[2], ("le", le)];
                    self.add(family, &format!("{family}_bucket"), &labels, Kind::Bucket(q, series), rate);
                }
                self.add(family, &format!("{family}_count"), &labels, Kind::Bucket(1.0, series), rate);
                self.add(family, &format!("{family}_sum"), &labels, Kind::Sum, rate * 0.06);
            }
        }
        for (f, kind, a) in [
            ("go_goroutines", Kind::Gauge, 120.0),
            ("go_threads", Kind::Gauge, 14.0),
            ("go_memstats_heap_inuse_bytes", Kind::Gauge, 8e7),
            ("go_memstats_heap_objects", Kind::Gauge, 4e5),
            ("go_memstats_next_gc_bytes", Kind::Gauge, 9e7),
            ("process_open_fds", Kind::Gauge, 60.0),
            ("process_resident_memory_bytes", Kind::Gauge, 2e8),
            ("process_start_time_seconds", Kind::Constant, 1.69e9),
        ] {
            self.gauge(f, &[], kind, a);
        }
        self.counter("go_memstats_alloc_bytes", &[], Kind::Integer, 4e7);
        self.counter("go_memstats_mallocs", &[], Kind::Integer, 6e5);
        self.counter("process_cpu_seconds", &[], Kind::Hundredths, 60.0);
    }

    fn pods(&mut self, scale: usize) {
        let i = self.number;
        let node = host_name(i);
        for p in 0..8 * scale {
            let app = APPS[hash(&[&i, &p, &"app"]) as usize % APPS.len()];
            let namespace = NAMESPACES[hash(&[&app]) as usize % NAMESPACES.len()];
            let x = hash(&[&i, &p, &"pod"]);
            let pod = format!("{app}-{:08x}-{:05x}", hash(&[&app, &0]) as u32, x & 0xf_ffff);
            let uid = format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                x as u32,
                x & 0xffff,
                hash(&[&x]) & 0xfff,
                hash(&[&x, &1]) & 0xfff,
                hash(&[&x, &2]) & 0xffff_ffff_ffff
            );
            let id = format!(
                "/kubepods/burstable/pod{uid}/{:08x}{:08x}",
                hash(&[&x, &3]) as u32,
                hash(&[&x, &4]) as u32
            );
            let name = format!("k8s_{app}_{pod}_{namespace}");
            let labels = [
                ("container", app),
                ("id", &*id),
                ("image", IMAGES[hash(&[&app]) as usize % IMAGES.len()]),
                ("name", &*name),
                ("namespace", namespace),
                ("pod", &*pod),
                ("node", &*node),
            ];
            let idle = hash(&[&x, &5]).is_multiple_of(4);
            for (f, kind, rate) in [
                ("container_cpu_usage_seconds", Kind::Nanoseconds, 1.4e9),
                ("container_cpu_cfs_periods", Kind::Integer, 148.0),
                ("container_cpu_cfs_throttled_periods", Kind::Integer, 2.0),
                ("container_network_receive_bytes", Kind::Integer, 2e6),
                ("container_network_transmit_bytes", Kind::Integer, 3e6),
                ("container_fs_writes_bytes", Kind::Integer, 4e4),
            ] {
                let still = idle && kind != Kind::Nanoseconds;
                self.counter(f, &labels, if still { Kind::Constant } else { kind }, rate);
            }
            for (f, kind, a) in [
                ("container_memory_working_set_bytes", Kind::Gauge, 3e8),
                ("container_memory_rss", Kind::Gauge, 2.5e8),
                ("container_memory_cache", Kind::Gauge, 4e7),
                ("container_spec_memory_limit_bytes", Kind::Constant, 5.4e8),
                ("container_start_time_seconds", Kind::Constant, 1.7e9),
            ] {
                self.gauge(f, &labels, kind, a);
            }
            let base = [("namespace", namespace), ("pod", &*pod), ("uid", &*uid)];
            for phase in PHASES {
                let labels = [base[0], ("phase", phase), base[1], base[2]];
                let v = if phase == "Running" { 1.0 } else { 0.0 };
                self.gauge("kube_pod_status_phase", &labels, Kind::Constant, v);
            }
            let (pod_ip, node) = (format!("10.{}.{p}.{}", i % 250, x % 250), &*node);
            let labels = [base[0], base[1], base[2], ("node", node), ("pod_ip", &*pod_ip)];
            self.gauge("kube_pod_info", &labels, Kind::Constant, 1.0);
            let labels = [("container", app), base[0], base[1], base[2]];
            self.counter("kube_pod_container_status_restarts", &labels, Kind::Constant, 3.0);
            self.gauge("kube_pod_container_status_ready", &labels, Kind::Constant, 1.0);
            let labels = [
                labels[0],
                labels[1],
                labels[2],
                labels[3],
                ("node", node),
                ("resource", "memory"),
                ("unit", "byte"),
            ];
            self.gauge("kube_pod_container_resource_requests", &labels, Kind::Constant, 2.7e8);
        }
    }
}

fn host_name(i: usize) -> String {
    format!("host-{i:04}.eu-west-{}.example.com", i % 3 + 1)
}

/// What is scraped at one address.
pub struct Target {
    series: Vec<Series>,
    /// What stands in front of each value, metadata included.
    texts: Vec<Vec<u8>>,
    /// Labels that the scraper adds.
    pub added: Labels,
    /// When in the interval it is scraped, 0 to 1.
    pub phase: f64,
    random: Random,
}

impl Target {
    /// Number `i` of a fleet, with so many series.
    pub fn new(i: usize, series: usize) -> Self {
        let mut scale = 1;
        let mut all = loop {
            let mut host = Host { number: i, series: Vec::new() };
            host.node(scale);
            host.service(scale);
            host.pods(scale);
            if host.series.len() >= series {
                break host.series;
            }
            scale += 1;
        };
        all.sort_by_cached_key(|s| (s.family.clone(), s.name.clone(), s.rendered()));
        all.truncate(series);
        let mut family = "";
        let texts = all.iter().map(|s| {
            let mut text = String::new();
            if s.family != family {
                family = &s.family;
                let _ = write!(text, "# HELP {family} Synthetic metric for the bench.\n# TYPE {family} ");
                let _ = writeln!(text, "{}", s.metric_type);
            }
            text.push_str(&s.name);
            if !s.labels.is_empty() {
                let _ = write!(text, "{{{}}}", s.rendered());
            }
            text.push(' ');
            text.into_bytes()
        });
        let texts = texts.collect();
        let (dc, instance) = (format!("eu-west-{}", i % 3 + 1), format!("host-{i:04}:9100"));
        let added = [("dc", dc.as_str()), ("instance", &instance), ("job", "fleet")];
        Self {
            series: all,
            texts,
            added: Labels::from_pairs(added),
            phase: Random::new(i as u64 * 7 + 1).unit(),
            random: Random::new(i as u64 + 1),
        }
    }

    /// The body of a scrape.
    pub fn body(&mut self, step: u64, out: &mut Vec<u8>) {
        for (text, series) in self.texts.iter().zip(&self.series) {
            out.extend_from_slice(text);
            let v = if series.motion.is_constant() {
                series.motion.base
            } else {
                series.motion.exact(step, &mut self.random)
            };
            series.motion.write(v, out);
            out.push(b'\n');
        }
    }

    /// The values of a scrape, without its text.
    pub fn values(&mut self, step: u64, mut each: impl FnMut(usize, f64)) {
        let mut scratch = Vec::new();
        for (i, series) in self.series.iter().enumerate() {
            if series.motion.is_constant() {
                each(i, series.motion.base);
            } else {
                let v = series.motion.exact(step, &mut self.random);
                each(i, series.motion.rounded(v, &mut scratch));
            }
        }
    }

    /// The labels of a series, the target's included.
    pub fn labels(&self, i: usize) -> Labels {
        let series = &self.series[i];
        let name = [("__name__", series.name.as_str())];
        let own = series.labels.iter().map(|(n, v)| (*n, v.as_str()));
        let added = self.added.iter().map(|l| (&*l.name, &*l.value));
        Labels::from_pairs(name.into_iter().chain(own).chain(added))
    }

    /// How many series.
    pub fn len(&self) -> usize {
        self.series.len()
    }
}
