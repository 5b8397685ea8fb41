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
complete -c tsdbctl -n "__fish_tsdbctl_needs_command" -f -a "promql" -d 'Format, parse and explain expressions, run test scripts'
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
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand completions" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand man" -l out -d 'Write one page per command into this directory' -r -F
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand man" -s v -l verbose -d 'Say what was understood and done, on stderr'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand man" -s h -l help -d 'Print help'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export promql completions man help" -f -a "query" -d 'Evaluate PromQL over data directories, with no server'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export promql completions man help" -f -a "inspect" -d 'Look at what is stored'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export promql completions man help" -f -a "export" -d 'Write every sample, in the lines of `promtool tsdb dump`'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export promql completions man help" -f -a "promql" -d 'Format, parse and explain expressions, run test scripts'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export promql completions man help" -f -a "completions" -d 'Print the completion script of a shell'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export promql completions man help" -f -a "man" -d 'Print the manual page, or write the pages of all commands'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and not __fish_seen_subcommand_from query inspect export promql completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "blocks" -d 'List blocks, with gaps and overlaps marked'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "series" -d 'List series, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "labels" -d 'List label names, or the values of one label, one a line'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from inspect" -f -a "exemplars" -d 'List exemplars of matching series'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "fmt" -d 'Format expressions; comments are lost'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "parse" -d 'Print the tree of an expression'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "explain" -d 'Print the operators that an expression would run as'
complete -c tsdbctl -n "__fish_tsdbctl_using_subcommand help; and __fish_seen_subcommand_from promql" -f -a "test" -d 'Run test scripts in Prometheus\' language (load, eval, expect), with its test settings'
