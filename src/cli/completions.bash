
# Bash takes `:` and `=` for the ends of words, and would have `role:web` and `--limit=web1` completed in parts: what stands together in
# the line is asked for as one word, and what the shell has of it already is taken off what comes back.
_infra_whole_words() {
    local -a whole=()
    local rest="$COMP_LINE" part gap word taken="" i index=0 start=0
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        part="${COMP_WORDS[i]}"
        gap=" "
        [[ -n "$part" ]] && gap="${rest%%"$part"*}"
        if ((i > 0)) && [[ -z "$gap" ]]; then
            whole[${#whole[@]} - 1]+="$part"
        else
            whole+=("$part")
            ((i > COMP_CWORD)) || start=$((${#COMP_LINE} - ${#rest} + ${#gap}))
        fi
        rest="${rest#"$gap"}"
        rest="${rest#"$part"}"
        ((i == COMP_CWORD)) && index=$((${#whole[@]} - 1))
    done
    word=""
    ((COMP_POINT > start)) && [[ -n "${COMP_WORDS[COMP_CWORD]}" ]] && word="${COMP_LINE:start:COMP_POINT-start}"
    local -a COMP_WORDS=("${whole[@]}")
    local COMP_CWORD=$index
    _clap_complete_infra "$1" "$word" "${whole[index > 0 ? index - 1 : 0]}"
    for ((i = ${#word}; i > 0; i--)); do
        if [[ "${word:i-1:1}" == [:=] && "$COMP_WORDBREAKS" == *"${word:i-1:1}"* ]]; then
            taken="${word:0:i}"
            break
        fi
    done
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]="${COMPREPLY[i]#"$taken"}"
        # A file name with a blank in it is one word.
        [[ "$word" != [\"\']* && "${COMPREPLY[i]}" == *' '* ]] && printf -v "COMPREPLY[i]" %q "${COMPREPLY[i]}"
    done
    return 0
}
if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -o nospace -o bashdefault -o nosort -F _infra_whole_words infra
else
    complete -o nospace -o bashdefault -F _infra_whole_words infra
fi
