# Tells of which runs this host keeps something, behind ways.sh and wire.sh: of each its name, whether it changed the host, and
# which run it took back. Of the run in RUN, where that is set, what was before it, and what the runs before it wanted.
infra="$ROOT/var/lib/infra"
for folder in "$infra"/runs/*; do
	[ -d "$folder" ] && [ ! -L "$folder" ] || continue
	changed=no restores=-
	plain "$folder/journal" && grep -qE '^[a-z]* (done|put back in part:.*)$' "$folder/journal" && changed=yes
	# Rules have no line in the journal.
	for loaded in "$folder"/*/loaded; do
		[ -e "$loaded" ] && [ ! -e "${loaded%/*}/rolled-back" ] && changed=yes
	done
	plain "$folder/restores" && read -r restores <"$folder/restores"
	emit run "${folder##*/} $changed $restores"
done
if [ -n "$RUN" ] && [ -d "$infra/runs/$RUN/before" ] && [ ! -L "$infra/runs/$RUN" ]; then
	emit before "$RUN"
	for record in manifest firewall.rules; do
		plain "$infra/runs/$RUN/before/$record" && pour "before $record" cat "$infra/runs/$RUN/before/$record"
	done
	plain "$infra/manifest" && pour manifest cat "$infra/manifest"
	plain "$infra/runs/$RUN/journal" && pour performed sed -n 's/^[a-z]* performs //p' "$infra/runs/$RUN/journal"
	plain "$infra/runs/$RUN/journal" && grep -q '^packages done$' "$infra/runs/$RUN/journal" && emit packages yes
	earlier=''
	for folder in "$infra"/runs/*; do
		[ "${folder##*/}" != "$RUN" ] || break
		plain "$folder/wanted" && earlier="$folder $earlier"
	done
	for folder in $earlier; do pour "wanted ${folder##*/}" cat "$folder/wanted"; done
fi
