
# Bash takes `:` and `=` for the ends of words, and would have `role:web` and `--limit=web1` completed in parts: the whole word is asked
# for, and what the shell has of it already is taken off what comes back.
_infra_whole_words() {
    local line="${COMP_LINE:0:COMP_POINT}" word
    local -a COMP_WORDS
    IFS=$' \t\n' read -r -a COMP_WORDS <<<"$line"
    [[ "$line" == *[$' \t'] ]] && COMP_WORDS+=("")
    local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    word="${COMP_WORDS[COMP_CWORD]}"
    _clap_complete_infra "$1" "$word" "${COMP_WORDS[COMP_CWORD - 1]}"
    local taken="${word%"${word##*[:=]}"}" i
    if [[ -n "$taken" && "$COMP_WORDBREAKS" == *"${taken: -1}"* ]]; then
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]="${COMPREPLY[i]#"$taken"}"
        done
    fi
}
complete -o nospace -o bashdefault -F _infra_whole_words infra
