"""The cases of the safety net (`safety_net.py`): runs that are trained, and command lines that use them.

A command line is also the name of its row in the recorded file. To compare with a file that was recorded before, cases
can be added, but not renamed. The order of `RUNS` and `OTHERS` matters, because `chargen info` lists the runs in the
order in which they were trained; the order of the other lists is free. The input files are those of
`safety_net_inputs.py`.
"""

# Parts of command lines.
BASE = "mgru-char-0"  # the run that most cases use, one of the grid
SMALL = "--steps 60 --seed 7 --hidden 32 --batch 16 --seq-len 16"
NO_RECIPE = f"{SMALL} --members 1 --ngrams 0 --weight-dropout 0"  # leaves nothing to the recipe
PLAIN = f"text.txt {NO_RECIPE}"
INIT = "--steps 20 --seed 7 --init-from"
FEW = "--file few.txt"
TWO = "--file two.txt"
MOSES = "--file moses.txt"
KALDI = "--file kaldi.txt"
COSTS = "--costs costs.txt"

# ── chargen train: arguments by the name of the run, in the order of training ────

TOKENIZERS = {"char": "char", "byte": "byte", "sp": "sp:330"}
GRID = {
    f"{cell}-{name}-{dropout}": f"{PLAIN} --cell {cell} --tokenizer {tokenizer} --dropout {dropout}"
    for cell in ("rnn", "lstm", "gru", "mgru")
    for name, tokenizer in TOKENIZERS.items()
    for dropout in ("0", "0.2")
}
RUNS = {
    **GRID,
    "layers": f"{PLAIN} --layers 2 --dropout 0.3",
    "jsonl": f"records.jsonl {NO_RECIPE} --text-field body --documents file",
    "members": f"text.txt {SMALL} --members 3",
    "init-error": f"odd.txt {INIT} {BASE} --new-chars error",  # fails: new characters
    "members-gru": f"text.txt {SMALL} --members 2 --layers 2 --cell gru --tokenizer byte",
    "two-files": f"text.txt val.txt {NO_RECIPE}",
    "members-sp": f"text.txt {SMALL} --members 2 --cell lstm --tokenizer sp:330 --weight-dropout 0.2",
    "rate": f"{PLAIN} --lr 0.02",
    "ngrams": f"text.txt {SMALL} --members 1 --ngrams 4 --ngram-dropout 0.3",
    "latin1": f"latin1.txt {NO_RECIPE} --encoding latin-1",
    "ngrams-byte": f"text.txt {SMALL} --members 1 --ngrams 6 --ngram-dropout 0 --cell rnn --tokenizer byte",
    "stdin": f"- {NO_RECIPE}",
    "weight-dropout": f"{PLAIN} --weight-dropout 0.3 --cell gru",
    "separator": f"separator.txt {NO_RECIPE} --documents '%%'",
    "embedding": f"{PLAIN} --embedding 24",
    "init-unknown": f"odd.txt {INIT} {BASE} --new-chars unknown",
    "tied": f"{PLAIN} --tie-weights --cell lstm",
    "init-grow": "large.txt --steps 10 --seed 7 --init-from layers --lr 0.001",
    "recipe": "text.txt --steps 60 --seed 7",
    "blank": f"blank.txt {NO_RECIPE} --documents blank --cell rnn --tokenizer byte",
    "defaults": "text.txt --steps 20 --hidden 32",
    "val-fraction": f"{PLAIN} --val-fraction 0.3 --device cpu --save-every 1s",
    "epochs": "text.txt --epochs 0.7 --hidden 32",
    "lines-sp": f"{PLAIN} --documents line --cell lstm --tokenizer sp:330",
    "clip": f"{PLAIN} --clip 0.1",
    "large-members": "large.txt --steps 30 --seed 7 --hidden 48 --members 2 --documents line",
    "decay": f"{PLAIN} --weight-decay 0.5",
    "lines-plain": f"{PLAIN} --documents line --cell gru --dropout 0.2",
    "seed": f"{PLAIN} --seed 8",
    "init-documents": f"val.txt {INIT} lines-plain --documents line",
    "lanes": f"{PLAIN} --batch 8",
    "large": "large.txt --steps 60 --seed 7 --hidden 64 --cell gru",
    "windows": f"{PLAIN} --seq-len 24",
    "val": f"{PLAIN} --val val.txt",
    "sp-file": f"{PLAIN} --tokenizer sp:pieces.model",  # a given SentencePiece model
    "lines": f"text.txt {SMALL} --documents line",
    "crlf": f"crlf.txt {NO_RECIPE} --newline keep",
    "files": f"folder {NO_RECIPE} --documents file",
    "init": f"val.txt --steps 60 --seed 7 --batch 16 --seq-len 16 --init-from {BASE}",
    "crlf-lf": f"crlf.txt {NO_RECIPE}",
    "nfd": f"nfd.txt {NO_RECIPE} --normalize none",
    "reber": f"reber {NO_RECIPE} --documents line",
    "gzip": f"text.txt.gz {NO_RECIPE}",
}

# Runs that are also stopped after 30 steps and resumed; the result must be the same.
RESUMED = ["mgru-char-0.2", "lstm-byte-0", "gru-sp-0.2", "members", "ngrams", "lines", "large", "val"]

# ── commands that use a run: what follows "-m RUN" ───────────────────────────────

# The runs for which SAMPLE_BASIC and SCORE_BASIC are run.
SAMPLED = [
    BASE,
    "lstm-char-0.2",
    "mgru-sp-0.2",
    "gru-byte-0",
    "rnn-sp-0",
    # other networks
    "layers",
    "tied",
    "members",
    "members-gru",
    "members-sp",
    "ngrams",
    "ngrams-byte",
    "large",
    # other texts
    "lines",
    "lines-sp",
    "blank",
    "separator",
    "crlf",
]

SAMPLE_BASIC = [
    # one or several texts, and where they end
    "-n 3",
    "-n 6",
    "--prompt 'Nhà '",
    "--until newline -n 5",
    "--until boundary -n 5",
    "--stop e --stop 水 -n 4",
    # the rules
    "--temp 0",
    "--temperature .5 -n 2",
    "--top-k 5",
    "--top-p 0.7",
    "--typical .8",
    "--min-p .1",
    "--dry 3 --dry-base 1.5 --dry-allowed 2",
    "--max-copy 2",
    # constraints and search
    "--ban e --ban 山",
    "--allow-invalid-utf8 -n 4",
    r"--regex '[A-Z][a-z]+( [a-z]+)*\.' -n 3",
    "--particles 6 --regex '[a-z ]+'",
    "--prompt The --suffix n. --particles 8",
    "--beam 3",
    "--best-of 4",
]

# For the runs BASE and lines only, as are all lists below.
SAMPLE_MORE = [
    # prompt, length, output
    "--length 0",
    "--prompt -",
    "--prompt Zß漢",
    "--prompt-file prompt.txt",
    "--prompt-file prompt.txt -n 5 --until newline",
    "--raw",
    "--device cpu",
    # the rules
    "--temp 3",
    "--temp 0 -n 2",
    "--top-k 1",
    "--top-k 8 --top-p 0.9 --typical 0.95 --min-p 0.01",
    "--dry 2 --dry-base 1.5 --dry-allowed 2 --temp 0",
    "--stop 人 --dry 1",
    # copies of the training text
    "--report",
    "--report --corpus text.txt -n 2",
    "--max-copy 3 --report --prompt The",
    "--max-copy 3 --corpus text.txt -n 5",
    "--max-copy 3 --particles 4",
    # constraints and search
    "--ban the --ban my --particles 4",
    r"--regex '\d{2} [a-z]+' --temp 0",
    "--regex '(The|Nhà) .{3,12}' --particles 8 -n 2",
    "--beam 3 --regex '[a-z]{5,9}' --ban e",
    "--beam 4 --prompt The",
    "--suffix 水 -n 2",
    "--prompt A --suffix z --particles 9 --temp .7",
    "--best-of 3 -n 3 --prompt A --until newline",
]

SCORE_BASIC = [
    f"{FEW} --end",
    f"{FEW} --no-end --words",
    f"{FEW} --chars",
    f"{TWO} --suggest",
    "--context 'The sea ' 'and the wind' 'wind and' ''",
]

SCORE_MORE = [
    # input
    "The 水",
    "'The sea' 'sea The' 'Ж' 'Nhà'",
    "--words --by per-byte 'The sea' 'a  b'",
    "--top 5",
    "--file -",
    f"{FEW} --whole",
    f"{FEW} {TWO} --device cpu",
    "--file null.bin --null",
    "--file records.jsonl --json-lines --field body --top 4",
    "--file latin1.txt --encoding latin-1 --top 4",
    "--file bad.txt --no-sort",
    "--file bad.txt --errors replace",
    "--file bad.txt --errors skip",
    # order
    "--file lines.txt --by total",
    "--file lines.txt --by per-byte --sort best",
    "--file lines.txt --by per-byte --top 3",
    # output
    f"{FEW} --tsv",
    f"{FEW} --tsv --words --no-sort",
    f"{FEW} --tsv --chars --end",
    f"{FEW} --chars --sort best --words",
    f"{FEW} --html page.html",
    f"{FEW} --html page.html --chars --raw",
    f"{TWO} --html page.html --suggest --context 'Nhà '",
    f"{TWO} --suggest --chars --context 'The ' --top 1",
]

EVAL = [
    "val.txt",
    "text.txt val.txt --device cpu",
    "folder",
    "-",
    "crlf.txt",
    "latin1.txt --encoding latin-1",
    "text.txt.gz --max-corpus-size 1MB",
    "text.txt --max-corpus-size 9kB",
    "val.txt --adapt",
    "val.txt --adapt --adapt-decay 0.1",
    "val.txt --adapt --adapt-rule sgd --adapt-rate 0.02 --adapt-segment 40",
]

RESCORE = [
    MOSES,
    f"{MOSES} --sort --weight 0.5",
    f"{MOSES} --feature net --format moses --end",
    f"{MOSES} --as-costs",
    f"{MOSES} --best --by per-char",
    f"{MOSES} --context The --no-end --no-sort",
    f"{MOSES} --tune refs.txt",
    f"{MOSES} --tune refs.txt --error cer --best",
    KALDI,
    f"{KALDI} --best --format kaldi --raw",
    f"{KALDI} {COSTS} --as-costs",
    f"{KALDI} {COSTS} {COSTS} --sort --device cpu",
    f"{KALDI} {COSTS} --tune kaldi-refs.txt --best",
    "--best",
]

# ── whole command lines, run in this order ───────────────────────────────────────

OTHERS = [
    # runs
    "info",
    f"info {BASE}",
    "info members",
    "info checkpoints/lines/model.safetensors",
    f"compare {BASE} layers val.txt --learn large.txt",
    f"compare {BASE} members val.txt --top 2",
    f"compare {BASE} crlf latin1.txt --encoding latin-1 --max-corpus-size 1MB",
    "compare rnn-sp-0 gru-byte-0 lines val.txt --resamples 500 --seed 3 --device cpu",
    "eval -m large large.txt",
    "eval -m lines text.txt",
    "score -m members --file text.txt --top 20",
    "score 'The sea'",  # with the newest run
    "sample --seed 1",
    "sample -m ngrams --seed 5 -n 900 --length 90",
    f"sample -m {BASE} --seed 5 --length 31000",  # long enough to be compiled
    "play",
    "--version",
    # corpora
    "corpora",
    "corpora list",
    "corpora get alphabet --output -",
    "corpora get markov",
    "corpora get markov:2 --output made.txt",
    "corpora check text.txt",
    "corpora check text.txt val.txt text.txt",
    "corpora check text.txt --max-corpus-size 1kB",
    "corpora check blank.txt --documents blank",
    "corpora check records.jsonl --text-field body",
    "corpora check latin1.txt",
    "corpora check latin1.txt --encoding latin-1",
    "corpora check crlf.txt",
    "corpora check crlf.txt --newline keep",
    "corpora check nfd.txt --normalize none",
    "corpora check odd.txt",
    "corpora check folder",
    # classifiers
    f"classify -m {BASE} -m members 'The sea'",
    "classify --train labels.tsv --steps 25 --hidden 32 --seed 3",
    "classify -m labels 'The sea' 'Nhà của tôi' '山水'",
    "classify --train labels --name three --steps 20 --hidden 32 --device cpu",
    "classify -m three 'The sea' 'Nhà'",
    "classify --train labels.tsv --name labelled --steps 20 --hidden 32",
    f"classify -m labelled {FEW}",
    "classify -m labels --labelled labels.tsv --seed 5",
    "classify -m labels",
    "classify --train labels --budget 2s --name quick",
    "info three",
    # runs that are replaced, extended, or limited by a time
    f"train text.txt {SMALL} --name members --force --members 1",
    f"train text.txt {SMALL} --name tied",  # the name is taken
    f"train --resume {BASE} --steps 80",
    "train --resume epochs --epochs 1",
    "train text.txt --budget 5s --hidden 32 --name budget",
    "train --resume budget --more 5s",
]

ERRORS = [
    "smaple",
    # train
    "train missing.txt --steps 1",
    "train text.txt --steps 1 --epochs 1",
    "train text.txt --steps 1 --hidden 0",
    "train text.txt --cell gruu",
    "train text.txt --tokenizer sp:x --steps 1",
    "train text.txt --name a/b --steps 1",
    "train text.txt --val val.txt --val-fraction 0.2",
    "train text.txt --max-corpus-size 1kB",
    "train records.jsonl --text-field none --steps 1",
    "train text.txt --new-chars grow --steps 1",
    f"train text.txt --init-from {BASE} --tokenizer byte",
    "train --resume nothing",
    f"train --resume {BASE} --hidden 48",
    # the other commands
    "sample -m nothing",
    f"sample -m {BASE} --temp -1",
    f"sample -m {BASE} --top-p 0",
    f"sample -m {BASE} --regex '('",
    f"sample -m {BASE} --beam 2 --best-of 2",
    f"score -m {BASE} --null --whole {FEW}",
    f"eval -m {BASE} val.txt --adapt-rate 0.1",
    f"compare {BASE} val.txt",
    "rescore --tune refs.txt --weight 1",
    "classify --train text.txt",
    "corpora check none.txt",
    "corpora get markov:9",
]
