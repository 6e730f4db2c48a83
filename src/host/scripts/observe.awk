# Reads the files of the observing script: `who` says for whom the next ones are read, `known` and `on_ways` which paths are looked at
# already. Prints a line with the other paths of the manifest, one with the folders on the way to them, one with the most files that the
# kernel lets a process open, and then what is told.
who == "system" {
	if ($1 == "MemTotal:") out = out "memory " $2 "\n"
	else if (/^(ID|VERSION_ID|VERSION_CODENAME)=/) out = out "os " $0 "\n"
}
who == "bound" { bound = $1 }
who == "manifest" {
	out = out "manifest " $0 "\n"
	path = $0
	if (sub(/^[^ ]+ [^ ]+ \//, "./", path)) {
		if (!many++) {
			count = split(known, paths, " ")
			for (i = 1; i <= count; i++) seen[paths[i]] = 1
			count = split(on_ways, paths, " ")
			for (i = 1; i <= count; i++) way[paths[i]] = 1
		}
		if (!(path in seen)) {
			seen[path] = 1
			more = more " " path
			while (sub(/\/[^\/]*$/, "", path) && path != "." && !(path in way)) {
				way[path] = 1
				ways = ways " " path
			}
		}
	}
}
(who == "owed" || who == "made") && FNR == 1 {
	path = FILENAME
	sub(/.*\//, "", path)
	out = out who " " path " " $0 "\n"
}
END { printf "%s\n%s\n%s\n%s", more, ways, bound, out }
