# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_tsdbctl_global_optspecs
    string join \n v/verbose h/help V/version
end

function __fish_tsdbctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_tsdbctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_tsdbctl_using_subcommand
    set -l cmd (__fish_tsdbctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -s V -l version -d 'Print version'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "query" -d 'Evaluate PromQL over data directories, with no server'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "inspect" -d 'Look at what is stored'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "export" -d 'Write every sample, in the lines of `promtool tsdb dump`'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "ingest" -d 'Store samples from files or stdin in a data directory'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "compact" -d 'Compact data directories: merge blocks, apply deletions and retention'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "downsample" -d 'Downsample data directories, in Thanos\' format'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "merge" -d 'Make one data directory of several'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "slice" -d 'Copy chosen series of a time range into a data directory of their own'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "promql" -d 'Format, parse and explain expressions, run test scripts'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "rules" -d 'Check, test, evaluate and backtest recording and alerting rules'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "man" -d 'Print the manual page, or write the pages of all commands'
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l time -d 'Evaluate at this time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l start -d 'First evaluation time of a range, in the same forms' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l end -d 'Latest evaluation time of a range, in the same forms' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l step -d 'Distance of evaluation times: 15s, 1m, or seconds' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -s o -l output -d 'Output format' -r -f -a "table\t'For people: an instant result in columns, a range in one line per series'
json\t'The HTTP API\'s response body, errors included'
ndjson\t'The API\'s element of each series, one a line'
csv\t'One line per sample, a column per label'
prom\t'The lines of `promtool tsdb dump`: labels, value, time in ms'
graph\t'A line chart'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l svg -d 'Draw a picture into this file too' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l png -d 'Draw a picture into this file too' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l stats -d 'Add sample counts and timings, as the API\'s `stats`; `all` counts per step too (with the feature promql-per-step-stats)' -r -f -a "true\t'Totals'
all\t'Per step too'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l limit -d 'Most series in the answer; 0 for all' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l lookback-delta -d 'How far an instant selector looks back' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l max-source-resolution -d 'Coarsest resolution of downsampled data to use where there is finer: auto (by step, range and function; raw samples in instant queries), 0s (raw samples), 5m, 1h' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l max-samples -d 'Most samples in memory at once, by Prometheus\' count' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l memory-budget -d 'Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l timeout -d 'Give up after this time, parsing included; 0 for never' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l explain -d 'Print the plan and do not run it'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -l analyze -d 'Print to stderr what each operator did: series, chunks, samples, bytes, memory, time'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand query" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and not __fish_seen_subcommand_from blocks series labels exemplars help" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and not __fish_seen_subcommand_from blocks series labels exemplars help" -s h -l help -d 'Print help'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and not __fish_seen_subcommand_from blocks series labels exemplars help" -f -a "blocks" -d 'List blocks, with gaps and overlaps marked'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and not __fish_seen_subcommand_from blocks series labels exemplars help" -f -a "series" -d 'List series, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and not __fish_seen_subcommand_from blocks series labels exemplars help" -f -a "labels" -d 'List label names, or the values of one label, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and not __fish_seen_subcommand_from blocks series labels exemplars help" -f -a "exemplars" -d 'List exemplars of matching series'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and not __fish_seen_subcommand_from blocks series labels exemplars help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from blocks" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from blocks" -l gap -d 'Times that no block covers are a gap if they are longer than this' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from blocks" -s o -l output -d 'Output format' -r -f -a "table\t'For people'
json\t'As the API\'s status/tsdb/blocks, with sizes, gaps and overlaps'
csv\t'For spreadsheets'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from blocks" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from blocks" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -s m -l match -d 'Only series of this selector, such as \'up{job="node"}\'; repeatable, a series needs one of them' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -l start -d 'Earliest time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h; the beginning if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -l end -d 'Latest time, in the same forms; the end if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -l limit -d 'Most series to list; 0 for all' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -s o -l output -d 'Output format' -r -f -a "table\t'For people'
json\t'The HTTP API\'s answer, errors included'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -l memory-budget -d 'Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -l timeout -d 'Give up after this time, parsing included; 0 for never' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from series" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -l values -d 'List the values of this label; names may be escaped as in the API\'s paths (U__raum_20_nr)' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -s m -l match -d 'Only labels of series of this selector; repeatable, a series needs one of them' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -l start -d 'Earliest time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h; the beginning if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -l end -d 'Latest time, in the same forms; the end if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -l limit -d 'Most names or values to list; 0 for all' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -s o -l output -d 'Output format' -r -f -a "table\t'For people'
json\t'The HTTP API\'s answer, errors included'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -l memory-budget -d 'Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -l timeout -d 'Give up after this time, parsing included; 0 for never' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from labels" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -s m -l match -d 'Only series of this selector; repeatable, a series needs one of them' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -l start -d 'Earliest time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h; the beginning if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -l end -d 'Latest time, in the same forms; the end if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -l limit -d 'Most series to list; 0 for all' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -s o -l output -d 'Output format' -r -f -a "table\t'For people'
json\t'The HTTP API\'s answer, errors included'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -l memory-budget -d 'Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -l timeout -d 'Give up after this time, parsing included; 0 for never' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from exemplars" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from help" -f -a "blocks" -d 'List blocks, with gaps and overlaps marked'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from help" -f -a "series" -d 'List series, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from help" -f -a "labels" -d 'List label names, or the values of one label, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from help" -f -a "exemplars" -d 'List exemplars of matching series'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand inspect; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand export" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand export" -s m -l match -d 'Only series of this selector, such as \'up{job="node"}\'; repeatable, a series needs one of them' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand export" -l start -d 'Earliest time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h; the beginning if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand export" -l end -d 'Latest time, in the same forms; the end if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand export" -s o -l output -d 'Output format' -r -f -a "prom\t'`{label="value", …} value timestamp_ms`, stale markers as NaN, histograms in braces'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand export" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -s d -l dir -d 'The data directory; made if it does not exist' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l max-block-duration -d 'With --blocks: the longest range of a block. It is the largest of 2h, 6h, 18h, 54h and so on that is not longer' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l format -d 'What the input is' -r -f -a "auto\t'By its name and first bytes'
text\t'Prometheus text; timestamps in ms'
openmetrics\t'OpenMetrics text; timestamps in seconds'
protobuf\t'Metric families in protobuf, each behind its length'
remote-write\t'A body of remote write, 1.0 or 2.0, snappy or plain'
csv\t'Rows with commas between'
ndjson\t'One JSON object per line'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l content-type -d 'What the input is, by the Content-Type header that it came with, judged as a scrape judges it' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l columns -d 'What the columns of a CSV file without header are: POSITION:KIND:NAME with commas between, as VictoriaMetrics writes it: \'1:time:unix_s,2:label:host,3:metric:temperature\'. Kinds are time (unix_s, unix_ms, unix_us, unix_ns, rfc3339), label NAME, metric NAME (a column of values)' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l csv-timestamp -d 'Column of a CSV file\'s header that holds the time, and its unit if it is not ms or RFC 3339: \'when:s\'. Default: time or timestamp, if there is one' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l csv-value -d 'Columns that hold values. Default: value. Each gives a series of its own, named by the column unless there is --csv-metric' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l csv-metric -d 'Column that holds the metric\'s name. Default: __name__ or metric, if there is one' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l csv-labels -d 'Columns that are labels. Default: all that are nothing else' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l timestamp-unit -d 'What timestamps in JSON lines count. Default: ms, and what can hardly be that is not read' -r -f -a "s\t'Seconds, with or without decimals'
ms\t'Milliseconds'
us\t'Microseconds'
ns\t'Nanoseconds'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l timestamp -d 'Time of samples that have none: RFC 3339, Unix seconds, now-1h. Default: when they are read; with --blocks they cannot be read' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l label -d 'A label for every series; repeatable. One of that name in the input is kept as exported_NAME' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l match -d 'Only series of this selector; repeatable, a series needs one of them' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l out-of-order-time-window -d 'Take samples that lie this far behind the newest one' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l sort -d 'Whether samples are put in order of time, in memory, before they are stored. auto does so where the input runs series by series or jumps back further than is taken' -r -f -a "auto\t'Where the input turns out to be in no order that the head takes, such as series by series'
always\t'All of the input, within the memory limit'
never\t'Nothing: samples go in as they come'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l max-future -d 'Refuse samples and exemplars further in the future than this, as a server does (10m there). Default: no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l max-series -d 'Refuse further series once the input has brought this many; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l on-error -d 'What to do about a line, row, family or series that cannot be read: it is named, then reading stops or goes on behind it. What came before is stored' -r -f -a "stop\t'Name it, store what came before it, end'
skip\t'Name it and go on behind it'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l wal-compression -d 'How the write-ahead log is compressed' -r -f -a "snappy\t'As Prometheus by default'
zstd\t'Smaller'
none\t'None'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l wal-sync -d 'When the write-ahead log is synced: group (at most every 10 ms; what is acknowledged is on disk), always (each batch), interval[=DURATION] (5s), os (when a segment is full, as Prometheus; a power cut may take what is newer)' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l on-disk-error -d 'What to do when the disk is full, read-only or fails. wait: what was read is kept and tried again each second, nothing more is read meanwhile, and it goes on by itself; a signal ends the wait. Nothing is acknowledged before it is on disk again after a sync that failed' -r -f -a "wait\t'Keep what could not be stored, read no more, and try again each second until it is stored or a signal comes'
stop\t'End; what was read and could not be stored is counted'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l enable-feature -d 'Switch on a feature, by Prometheus\' name: exemplar-storage, histograms-st-encoding, memory-snapshot-on-shutdown, metadata-wal-records, st-storage, xor2-encoding. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l memory-limit -d 'Most memory that the head, samples waiting to be in order (a quarter of it) and what is remembered of series met (an eighth) may take; 0 for no limit. With --blocks samples go to a scratch file in the directory when there are more. Default: 2GiB, with --blocks 256MiB' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -s o -l output -d 'How the counts are shown' -r -f -a "text\t'On stderr'
json\t'On stdout as one line of JSON, and on stderr'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l blocks -d 'Write blocks (backfill)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l allow-overlap -d 'With --blocks: write blocks over times that blocks of the directory, or its head, have already. Samples that are in both count once when they are queried, and compaction makes one of them'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l ack -d 'Print on stdout, after each sync, how many samples are safe in all'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l scrape-native-histograms -d 'Read native histograms where the input has them (scrape_native_histograms)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l always-scrape-classic-histograms -d 'Read a histogram\'s classic series too where it is native or converted (always_scrape_classic_histograms)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -l convert-classic-histograms-to-nhcb -d 'Convert classic histograms to native ones with custom buckets (convert_classic_histograms_to_nhcb)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand ingest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -s d -l dir -d 'A data directory; repeatable. What goes wrong with one does not keep the others from being compacted' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l enable-feature -d 'With --flush-head: switch on a feature, by Prometheus\' name: histograms-st-encoding, st-storage, xor2-encoding. Those that start timestamps need are on where the log has such. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l memory-limit -d 'Memory that may be taken; 0 for no limit. What needs more is not begun' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l scratch-limit -d 'Bytes that a step may write before it removes what it replaces. What needs more, or more than is free, is not begun' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l retention-time -d 'Remove blocks older than this: 15d, 1y' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l retention-size -d 'Remove the oldest blocks as long as blocks, logs and head take more than this' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l retention-percentage -d 'As --retention-size, in percent of the file system; prevails over it' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l retention-rule -d 'Keep series of a selector so long and no longer: \'{job="debug"}=3d\'; 0s is for ever. Repeatable, the first that a series satisfies counts. Applied where blocks are rewritten, and at the latest when a block is wholly past it' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l retention-rules -d 'Such rules from a file, one a line, behind those given by --retention-rule; # begins a comment' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l min-block-duration -d 'Range of the smallest blocks' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l max-block-duration -d 'Range of the largest blocks. Default: 31d, or a tenth of --retention-time if that is less' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l delay-compact-file -d 'A JSON file with the uploaded blocks, such as thanos.shipper.json: blocks of level 1 that are not in it, and those after them, wait' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -s o -l output -d 'How the plan or the result is shown' -r -f -a "text\t'The plan as a table; of the result a line on stderr'
json\t'On stdout, one JSON object a line for each directory'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l plan -d 'Print what would be done, step by step, and do nothing. A running server\'s directory may be looked at'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -l flush-head -d 'Write all that the head holds into blocks first. The last of them ends behind the newest sample, so that a server that starts again goes on from there'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand compact" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand downsample" -s d -l dir -d 'A data directory, or the folder of a Thanos bucket; repeatable. What goes wrong with one does not keep the others from being downsampled' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand downsample" -l tiers -d 'How long each resolution is kept: raw=14d,5m=90d,1h=1y, which is also what default stands for. What is not named is kept for ever' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand downsample" -l into -d 'Write downsampled blocks to this directory, made if it does not exist. For one --dir alone' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand downsample" -s o -l output -d 'How the plan or the result is shown' -r -f -a "text\t'The plan as a table; of the result a line on stderr'
json\t'On stdout, one JSON object a line for each directory'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand downsample" -l plan -d 'Print what would be done, step by step, and do nothing. A running server\'s directory may be looked at'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand downsample" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand downsample" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -l label -d 'A label for every series; {dir} in it stands for the last part of the directory\'s name. Given once for a name it holds for all directories; given as many times as there are directories, each gets its own, in their order. A label of that name in the data is kept as exported_NAME' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -l into -d 'The data directory that is written; made if it does not exist' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -l max-block-duration -d 'Longest range of a block. Blocks are as long as Prometheus would make them in the end: 2h, 6h, 18h …' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -l memory-limit -d 'Most memory that heads, labels and buffers may take; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -s o -l output -d 'How the result is shown' -r -f -a "text\t'On stderr'
json\t'On stdout as one line of JSON, and on stderr'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -l allow-overlap -d 'Make blocks also where the directory has samples of that time already. Prometheus merges them when it compacts'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand merge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l match -d 'Only series of this selector, such as \'up{job="node"}\'; repeatable, a series needs one of them' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l start -d 'Earliest time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h; the beginning if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l end -d 'Latest time, in the same forms; the end if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l pseudonyms -d 'Replace label values, by the key in FILE, which is made if it does not exist, for its owner alone. Who has it can find out which value a pseudonym stands for' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l pseudonyms-keep -d 'A label whose values stay; repeatable' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l pseudonyms-table -d 'Write to FILE what each pseudonym stands for: a line for each, the pseudonym, a tab, the value as a JSON string. What it holds already stays' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l into -d 'The data directory that is written; made if it does not exist' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l max-block-duration -d 'Longest range of a block. Blocks are as long as Prometheus would make them in the end: 2h, 6h, 18h …' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l memory-limit -d 'Most memory that heads, labels and buffers may take; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -s o -l output -d 'How the result is shown' -r -f -a "text\t'On stderr'
json\t'On stdout as one line of JSON, and on stderr'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -l allow-overlap -d 'Make blocks also where the directory has samples of that time already. Prometheus merges them when it compacts'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand slice" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and not __fish_seen_subcommand_from fmt parse explain test help" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and not __fish_seen_subcommand_from fmt parse explain test help" -s h -l help -d 'Print help'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and not __fish_seen_subcommand_from fmt parse explain test help" -f -a "fmt" -d 'Format expressions; comments are lost'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and not __fish_seen_subcommand_from fmt parse explain test help" -f -a "parse" -d 'Print the tree of an expression'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and not __fish_seen_subcommand_from fmt parse explain test help" -f -a "explain" -d 'Print the operators that an expression would run as'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and not __fish_seen_subcommand_from fmt parse explain test help" -f -a "test" -d 'Run test scripts in Prometheus\' language (load, eval, expect), with its test settings'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and not __fish_seen_subcommand_from fmt parse explain test help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from fmt" -s o -l output -d 'Output format' -r -f -a "table\t'For people'
json\t'The HTTP API\'s answer, errors included'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from fmt" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from fmt" -l check -d 'Print nothing; exit with 1 if an expression is not in its standard form'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from fmt" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from fmt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from parse" -s o -l output -d 'Output format' -r -f -a "table\t'For people'
json\t'The HTTP API\'s answer, errors included'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from parse" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from parse" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from parse" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from explain" -l start -d 'First evaluation time of a range' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from explain" -l end -d 'Latest evaluation time of a range' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from explain" -l step -d 'Distance of evaluation times' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from explain" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from explain" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from test" -l filter -d 'Run only the cases whose expression contains this' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from test" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from help" -f -a "fmt" -d 'Format expressions; comments are lost'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from help" -f -a "parse" -d 'Print the tree of an expression'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Print the operators that an expression would run as'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from help" -f -a "test" -d 'Run test scripts in Prometheus\' language (load, eval, expect), with its test settings'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand promql; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -s h -l help -d 'Print help'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -f -a "check" -d 'Check rule files: their form, expressions and templates, and what is probably not meant in them'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -f -a "test" -d 'Run unit tests of rules'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -f -a "eval" -d 'Evaluate rules over data directories: the values and alerts that they would give'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -f -a "backtest" -d 'Show when alerts would have been pending and firing over stored data: how often, for how long, how noisy'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -f -a "fmt" -d 'Format rule files: indentation, blank lines, expressions. Comments and order stay'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -f -a "deps" -d 'Show which rules read what others record, within groups and across them'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and not __fish_seen_subcommand_from check test eval backtest fmt deps help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l lint -d 'What to look for: duplicate-rules, all and none have Prometheus\' meaning for the exit status; strict counts every warning and shows notes too; a finding\'s own name looks for that alone. With commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l deny -d 'Exit with 3 if this is found (a finding\'s name, or all for every warning). Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l allow -d 'Do not look for this. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -s o -l output -d 'Output format' -r -f -a "text\t'For people: promtool\'s lines, each with the place and what to do'
json\t'One JSON object per file and line'
sarif\t'SARIF 2.1.0, which code hosts show beside the lines'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l lint-fatal -d 'Exit with 3 if what --lint names is found'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l ignore-unknown-fields -d 'Pass over fields that rule files do not have'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l all-documents -d 'Read all documents of a file; without it a second one is an error'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -l list -d 'List all that may be found, with what it means, and check nothing'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l run -d 'Run only tests whose name this regular expression matches, anywhere in it; may be repeated' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l jobs -d 'Tests that run at the same time [default: one per processor]' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l junit -d 'Write the results as JUnit XML to this file' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -s o -l output -d 'How results are shown' -r -f -a "text\t'For people: promtool\'s lines, and what helps'
tap\t'Test Anything Protocol'
json\t'All facts'
junit\t'JUnit XML'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l enable-feature -d 'PromQL features, by Prometheus\' names, separated by commas' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l watch -d 'Run again whenever a file changes'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l update -d 'Rewrite expectations that failed to what came, in place; comments and order stay'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l diff -d 'Mark the words that differ in colours, even where stderr is no terminal'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l debug -d 'Show how long tests took and all their samples at the end'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l ignore-unknown-fields -d 'Pass over fields of rule files that are not known'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -l compat.upstream-limits -d 'Refuse what Prometheus refuses for its size: 10,000 samples a query'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l time -d 'Evaluate once, at this time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l start -d 'Evaluate at the slots from this time on, in the same forms' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l end -d 'Latest slot, in the same forms; the newest sample\'s time if not given, with --write three hours ago at the latest' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l step -d 'Distance of the slots of all groups, whatever their interval' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l evaluation-interval -d 'Interval of groups that have none' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l query-offset -d 'Query offset of groups that have none' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l slots -d 'Which times are slots' -r -f -a "auto\t'As stored, where the directories hold samples of the group\'s rules, else hash'
hash\t'A server\'s: multiples of the interval, moved by a hash of the file\'s path as given and the group\'s name'
stored\t'Multiples of the interval, moved as the stored samples of the group\'s rules are'
replay\t'The very times of the stored samples; where two or more are missing a server was started anew'
start\t'From --start on'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l lead -d 'How long before the first slot alerts are followed; the longest `for` and `keep_firing_for` if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l group -d 'Only groups whose name matches this; repeatable' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l output-dir -d 'Where blocks are written; needed with several data directories' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l max-block-duration -d 'Longest time that a block may have samples of' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l external-label -d 'An external label for templates, NAME=VALUE; repeatable' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l external-url -d 'External URL for templates' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -s o -l output -d 'Output format; with --write nothing but what was written is told unless this is given' -r -f -a "table\t'For people: values and alerts of one time, or a line per series and alert of a range'
json\t'One JSON object with an array of evaluations'
csv\t'One line per sample'
prom\t'The lines of `promtool tsdb dump`: labels, value, time in ms; by time'
openmetrics\t'OpenMetrics with timestamps, which `ingest` reads; by series, native histograms left out'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l lookback-delta -d 'How far an instant selector looks back' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l memory-budget -d 'Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l timeout -d 'Give up after this time; 0 for never' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l use-stored -d 'Rules read what the directories hold of recorded metrics, and not what this run computes'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l write -d 'Store what was recorded as blocks, in the data directory or in --output-dir'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l alerts -d 'Store ALERTS and ALERTS_FOR_STATE too. The latter tells since when an alert is active, at most since --lead before the first slot'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l ignore-unknown-fields -d 'Pass over fields that rule files do not have'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -l all-documents -d 'Read all documents of a file'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from eval" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -s d -l dir -d 'A data directory of Prometheus (or of its agent), or a single block; several are merged' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l start -d 'First evaluation: RFC 3339, Unix seconds, now-1h, -1h, newest-1h' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l end -d 'Latest evaluation, in the same forms; the newest sample\'s time if not given' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l step -d 'Distance of the evaluations of all groups, whatever their interval' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l evaluation-interval -d 'Interval of groups that have none' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l query-offset -d 'Query offset of groups that have none' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l against -d 'An older version of the rules to compare with; repeatable' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l max-noise-increase -d 'Most growth of notifications against the older version that is no failure, percent; inf for any' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l external-label -d 'An external label for templates, NAME=VALUE; repeatable' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l external-url -d 'External URL for templates' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -s o -l output -d 'Output format' -r -f -a "table\t'For people: a line per alert'
json\t'One JSON object with every span of every series'
svg\t'The timeline'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l svg -d 'Draw a timeline into this file too' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l lookback-delta -d 'How far an instant selector looks back' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l memory-budget -d 'Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l timeout -d 'Give up after this time, parsing included; 0 for never' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l ignore-unknown-fields -d 'Pass over fields that rule files do not have'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -l all-documents -d 'Read all documents of a file'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from backtest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -l check -d 'Write nothing; name the files that are not formatted, and exit with 1 if there are any'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -s w -l write -d 'Write the files in place'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -l diff -d 'Print what would change'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -l sort-keys -d 'Put the keys of groups and rules into the usual order'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -l ignore-unknown-fields -d 'Pass over fields that rule files do not have'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from fmt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from deps" -s o -l output -d 'Output format' -r -f -a "text\t'For people'
dot\t'A graph for Graphviz: `dot -Tsvg`'
json\t'One JSON object'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from deps" -l deny -d 'Exit with 3 if there is any of these: cycle (rules that read each other in a circle), late-read (a rule reads a later one of its group), unknown (a selector names no metric). With commas between' -r -f -a "cycle\t'Rules that read each other in a circle, or themselves'
late-read\t'A rule that reads a later one of its group'
unknown\t'A rule of which it is not known what it reads'"
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from deps" -l enable-feature -d 'Switch on a feature of PromQL, by Prometheus\' name: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between' -r
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from deps" -l ignore-unknown-fields -d 'Pass over fields that rule files do not have'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from deps" -l all-documents -d 'Read all documents of a file'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from deps" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from deps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from help" -f -a "check" -d 'Check rule files: their form, expressions and templates, and what is probably not meant in them'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from help" -f -a "test" -d 'Run unit tests of rules'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from help" -f -a "eval" -d 'Evaluate rules over data directories: the values and alerts that they would give'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from help" -f -a "backtest" -d 'Show when alerts would have been pending and firing over stored data: how often, for how long, how noisy'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from help" -f -a "fmt" -d 'Format rule files: indentation, blank lines, expressions. Comments and order stay'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from help" -f -a "deps" -d 'Show which rules read what others record, within groups and across them'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand rules; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand completions" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand man" -l out -d 'Write one page per command into this directory' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand man" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand man" -s h -l help -d 'Print help'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "query" -d 'Evaluate PromQL over data directories, with no server'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "inspect" -d 'Look at what is stored'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "export" -d 'Write every sample, in the lines of `promtool tsdb dump`'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "ingest" -d 'Store samples from files or stdin in a data directory'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "compact" -d 'Compact data directories: merge blocks, apply deletions and retention'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "downsample" -d 'Downsample data directories, in Thanos\' format'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "merge" -d 'Make one data directory of several'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "slice" -d 'Copy chosen series of a time range into a data directory of their own'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "promql" -d 'Format, parse and explain expressions, run test scripts'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "rules" -d 'Check, test, evaluate and backtest recording and alerting rules'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "completions" -d 'Print the completion script of a shell'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "man" -d 'Print the manual page, or write the pages of all commands'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export ingest compact downsample merge slice promql rules completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "blocks" -d 'List blocks, with gaps and overlaps marked'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "series" -d 'List series, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "labels" -d 'List label names, or the values of one label, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "exemplars" -d 'List exemplars of matching series'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "fmt" -d 'Format expressions; comments are lost'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "parse" -d 'Print the tree of an expression'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "explain" -d 'Print the operators that an expression would run as'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "test" -d 'Run test scripts in Prometheus\' language (load, eval, expect), with its test settings'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from rules" -f -a "check" -d 'Check rule files: their form, expressions and templates, and what is probably not meant in them'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from rules" -f -a "test" -d 'Run unit tests of rules'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from rules" -f -a "eval" -d 'Evaluate rules over data directories: the values and alerts that they would give'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from rules" -f -a "backtest" -d 'Show when alerts would have been pending and firing over stored data: how often, for how long, how noisy'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from rules" -f -a "fmt" -d 'Format rule files: indentation, blank lines, expressions. Comments and order stay'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from rules" -f -a "deps" -d 'Show which rules read what others record, within groups and across them'
