# The few functions of eselect's library that our module uses, with the output of eselect 1.4 on a plain terminal.

die() {
	[[ $1 == -q ]] && shift
	echo "!!! Error: $*" >&2
	exit 249
}

write_list_start() {
	echo "$*"
}

write_kv_list_entry() {
	printf '  %-25s %s\n' "$1" "$2"
}

highlight_marker() {
	echo "$1 *"
}

write_numbered_list() {
	local i=0 entry
	for entry in "$@"; do
		printf '  [%d]   %s\n' "$((++i))" "${entry}"
	done
}
