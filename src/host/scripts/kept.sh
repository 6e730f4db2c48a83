# Tells whether this host was retired, and of which runs it keeps something, behind ways.sh and wire.sh: of each its name, whether
# it changed the host, as a whole or in a part that never goes back, and which run it took back. Of the run in RUN, where that is
# set, what was before it, and what the runs before it wanted; of a name that is no run here, such as a dot, what is there now.
infra="$ROOT/var/lib/infra"
# A step that outlived its controller is waited for: what it does is a part of its run.
if plain "$infra/step.lock"; then
	exec 8<"$infra/step.lock" && flock -w 50 8 || { echo 'a step of a run is still under way on this host' >&2 && exit 1; }
fi
plain "$infra/retired" && pour retired head -c 4096 "$infra/retired"
cut_off=''
plain "$infra/unfinished" && read -r cut_off phase <"$infra/unfinished"
# Those that changed this host, and the one that is asked for: what was only staged says nothing of the host.
those=''
for folder in "$infra"/runs/*; do
	[ -d "$folder" ] && [ ! -L "$folder" ] || continue
	changed=no restores=-
	# Of one that was cut off, files of both sides may be there.
	[ "$cut_off" != "${folder##*/}" ] || changed=yes
	plain "$folder/journal" && grep -E '^[a-z]* (done|put back in part:.*)$' "$folder/journal" | grep -qv '^packages ' && changed=yes
	# Rules have no line in the journal.
	for loaded in "$folder"/*/loaded; do
		[ -e "$loaded" ] && [ ! -e "${loaded%/*}/rolled-back" ] && changed=yes
	done
	[ "$changed" = no ] && [ "${folder##*/}" != "$RUN" ] || those="$those $folder"
	# It keeps what was before it, and not what it wanted: it brought certificates or passwords, or made a database another role.
	[ "$changed" = yes ] && [ -d "$folder/before" ] && ! plain "$folder/wanted" && changed=part
	plain "$folder/restores" && read -r restores <"$folder/restores"
	emit run "${folder##*/} $changed $restores"
done
if [ -n "$RUN" ]; then
	plain "$infra/manifest" && pour manifest cat "$infra/manifest"
	before="$infra/runs/$RUN/before" journal="$infra/runs/$RUN/journal"
	if [ -d "$before" ] && [ ! -L "$infra/runs/$RUN" ]; then
		emit before "$RUN"
		plain "$journal" && pour performed sed -n 's/^[a-z]* performs //p' "$journal"
		plain "$journal" && grep -q '^packages done$' "$journal" && emit packages yes
	else
		# That run was not here: before it was what is now.
		emit before now
		before=$infra
	fi
	for record in manifest firewall.rules; do
		plain "$before/$record" && pour "before $record" cat "$before/$record"
	done
	earlier=''
	for folder in $those; do
		[ "$before" = "$infra" ] || [ "${folder##*/}" != "$RUN" ] || break
		plain "$folder/wanted" && earlier="$folder $earlier"
	done
	for folder in $earlier; do pour "wanted ${folder##*/}" cat "$folder/wanted"; done
fi
