# Completion of roadhound(1) in bash.
_roadhound() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} model="--model --precision --threads"
    case $before in
    --precision) mapfile -t COMPREPLY < <(compgen -W "f32 int8" -- "$word"); return ;;
    --closer) mapfile -t COMPREPLY < <(compgen -W "nothing middle halves all" -- "$word"); return ;;
    --model | --folder) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --config | --adapt-config) mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$word"; compgen -d -- "$word"); return ;;
    --out | --times | --jsonl | --coco | --cvat | --video) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --init | --select | --every | --budget | --threads | --fps | --raw | --seed | --frames) return ;;
    esac
    local options
    case ${COMP_WORDS[1]-} in
    track) options="--init --select --auto --refind --no-refind --familiarity --adapt --adapt-config --out --times --jsonl --video --fps --raw --quiet $model --help" ;;
    watch) options="--config --out --times --jsonl --coco --cvat --video --every --budget --closer --fps --raw --quiet $model --help" ;;
    run) options="--config --adapt --check --help" ;;
    demo) options="--folder --seed --frames --quiet $model --help" ;;
    bench) options="--frames --json --compare --processor-time $model --help" ;;
    *) options="--help --version" ;;
    esac
    if [ "$COMP_CWORD" = 1 ]; then
        options="track watch run demo bench help --help --version"
    elif [[ $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -F _roadhound roadhound
