#!/usr/bin/env bash
# Builds the images that driftloop makes itself, without a registry, each tagged with the hash of what goes into it.
#
#   build.sh refs             print {"NAME": "REFERENCE", ...} for every image; builds nothing
#   build.sh build NAME...    build what is not cached yet
#   build.sh archive NAME...  build, and print the path of each image's OCI archive
#   build.sh import NAME...   build what containerd lacks and import it, keeping no archive; prints "imported REFERENCE" for those
#
# A folder with a Containerfile is an image. Beside it may stand
#   inputs       paths of the repository that are copied into the build context; pyproject.toml:project is that file's
#                [project] tables alone, so that a change to a linter's settings makes no image anew
#   go-build     lines "BINARY PACKAGE [TAGS|- [VARIABLE=VALUE]]": compiled on this host into the context's bin/, versions as
#                in go.mod and go.sum
#   go-module    a module of which some files are not as published: those below the folder module/ take their place
#   debootstrap  "SUITE [PACKAGE...]": a Debian root file system, in the context as rootfs.tar
#   build-args   names of environment variables handed to the build, empty by default
# `ARG IMAGE_name` in a Containerfile is a parent image (with _ for -); it is built first.
#
# Environment:
#   DRIFTLOOP_IMAGES_CACHE   where archives and layers are kept (~/.cache/driftloop-images)
#   DRIFTLOOP_IMAGE_FOLDERS  folders with images (this one)
#   DRIFTLOOP_CTR            containerd's client as it must be called here (ctr -n k8s.io)
#   DRIFTLOOP_BUILD_CA       folder with CA certificates that builds must trust instead of Debian's (behind a TLS proxy)
#   DRIFTLOOP_BUNDLE         air-gap bundle: archives are taken from its folder images/ and nothing is built
#   DRIFTLOOP_DEBIAN_MIRROR  Debian mirror (http://deb.debian.org/debian)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=${DRIFTLOOP_IMAGES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftloop-images}
read -r -a folders <<<"${DRIFTLOOP_IMAGE_FOLDERS:-$here}"
read -r -a ctr <<<"${DRIFTLOOP_CTR:-ctr -n k8s.io}"
mirror=${DRIFTLOOP_DEBIAN_MIRROR:-http://deb.debian.org/debian}
declare -A tags=()

readonly program=build.sh
# shellcheck source=../../scripts/shell.sh
source "$repo/scripts/shell.sh"

names() {
    local folder
    for folder in "${folders[@]}"; do
        find "$folder" -mindepth 2 -maxdepth 2 -name Containerfile -printf '%h\n'
    done | sort | sed 's|.*/||'
}

folder_of() {
    local folder
    for folder in "${folders[@]}"; do
        if [[ -f $folder/$1/Containerfile ]]; then
            printf '%s' "$folder/$1"
            return
        fi
    done
    die "no image is called '$1'; there are: $(names | tr '\n' ' ')"
}

parents_of() {
    sed -n 's/^ARG IMAGE_\([a-z_]*\)$/\1/p' "$(folder_of "$1")/Containerfile" | tr _ -
}

# Hashes of every file below the given paths, by name relative to the current folder.
hashes() {
    find "$@" -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 --no-run-if-empty sha256sum
}

project_tables() {
    awk '/^\[/ {keep = /^\[(project|build-system)[].]/} keep' "$repo/$1"
}

hash_inputs() { # FOLDER
    local path
    [[ -f $1/inputs ]] || return 0
    while read -r path; do
        if [[ $path == *:project ]]; then project_tables "${path%:project}" | sha256sum; else (cd "$repo" && hashes "$path"); fi
    done <"$1/inputs"
}

copy_inputs() { # FOLDER CONTEXT
    local path
    [[ -f $1/inputs ]] || return 0
    while read -r path; do
        if [[ $path == *:project ]]; then
            project_tables "${path%:project}" >"$2/${path%:project}"
        else
            (cd "$repo" && cp -a --parents "$path" "$2/")
        fi
    done <"$1/inputs"
    find "$2" -name __pycache__ -prune -exec rm -rf {} +
}

# Sets tags[NAME] for the image and its parents.
tag() {
    local name=$1 folder parent argument
    [[ -n ${tags[$name]:-} ]] && return
    folder=$(folder_of "$name")
    for parent in $(parents_of "$name"); do tag "$parent"; done
    tags[$name]=$(
        {
            (cd "$folder" && hashes .)
            hash_inputs "$folder"
            for parent in $(parents_of "$name"); do printf '%s %s\n' "$parent" "${tags[$parent]}"; done
            if [[ -f $folder/build-args ]]; then
                while read -r argument; do printf '%s=%s\n' "$argument" "${!argument:-}"; done <"$folder/build-args"
            fi
        } | sha256sum | cut -c1-12
    )
}

reference() {
    printf 'localhost/driftloop/%s:%s' "$1" "${tags[$1]}"
}

archive_of() {
    local folder=$cache/archives
    [[ -z ${DRIFTLOOP_BUNDLE:-} ]] || folder=$DRIFTLOOP_BUNDLE/images
    printf '%s/%s-%s.tar' "$folder" "$1" "${tags[$1]}"
}

in_store() {
    buildah --root "$cache/layers" --runroot "$cache/run" "$@"
}

built() {
    in_store inspect --type image "$(reference "$1")" >/dev/null 2>&1
}

build() {
    local parent
    for parent in $(parents_of "$1"); do build "$parent"; done
    built "$1" && return
    # Another run may be building the same image; different images can be built at the same time.
    (
        flock 9
        built "$1" || build_alone "$1" 9>&-
    ) 9>"$cache/locks/$1"
}

compile() { # CONTEXT
    local binary package tags variable module
    if [[ -f $1/go-module ]]; then
        module=$(<"$1/go-module")
        cp -r "$(cd "$1" && go mod download "$module" && go list -m -f '{{.Dir}}' "$module")" "$1/patched"
        chmod -R u+w "$1/patched"
        cp -r "$1/module/." "$1/patched/"
        (cd "$1" && go mod edit -replace "$module=./patched")
    fi
    while read -r binary package tags variable; do
        (cd "$1" && CGO_ENABLED=0 go build -trimpath -tags "${tags#-}" -ldflags "-s -w${variable:+ -X $variable}" \
            -o "$1/bin/$binary" "$package")
    done <"$1/go-build"
}

build_alone() {
    local name=$1 folder context parent argument options=()
    folder=$(folder_of "$name")
    for parent in $(parents_of "$name"); do
        options+=(--build-arg "IMAGE_${parent//-/_}=$(reference "$parent")")
    done
    printf 'building %s\n' "$(reference "$name")" >&2
    context=$cache/context/$name
    rm -rf "$context"
    mkdir -p "$context"
    cp -a "$folder/." "$context/"
    copy_inputs "$folder" "$context"
    if [[ -f $folder/go-build ]]; then compile "$context"; fi
    if [[ -f $folder/debootstrap ]]; then
        local suite packages
        read -r suite packages <"$folder/debootstrap"
        debootstrap --variant=minbase --include="${packages// /,}" "$suite" "$context/rootfs" "$mirror" >&2
        rm -rf "$context"/rootfs/var/cache/apt/archives/*.deb "$context"/rootfs/var/lib/apt/lists/*
        tar -C "$context/rootfs" --one-file-system -cf "$context/rootfs.tar" .
        rm -rf "$context/rootfs"
    fi
    if [[ -f $folder/build-args ]]; then
        while read -r argument; do options+=(--build-arg "$argument=${!argument:-}"); done <"$folder/build-args"
    fi
    # Only where something is fetched over TLS: Debian's own packages write into that folder.
    if [[ -n ${DRIFTLOOP_BUILD_CA:-} ]] && grep -qE 'uv pip|pip install' "$context/Containerfile"; then
        options+=(--volume "$DRIFTLOOP_BUILD_CA:/etc/ssl/certs:ro")
    fi
    in_store bud --quiet --isolation chroot --network host --layers=false "${options[@]}" \
        --tag "$(reference "$name")" --file "$context/Containerfile" "$context" >&2
    rm -rf "$context"
}

archive() {
    local file
    file=$(archive_of "$1")
    [[ -f $file ]] && return
    [[ -z ${DRIFTLOOP_BUNDLE:-} ]] || die "the bundle has no $file: it was made from another version of this checkout"
    build "$1"
    in_store push --quiet --disable-compression "$(reference "$1")" "oci-archive:$file.$$:$(reference "$1")" >&2
    mv "$file.$$" "$file"
}

import() {
    imported "$1" && return
    # Another run may be importing the same image.
    (
        flock 8
        imported "$1" || import_alone "$1" 8>&-
    ) 8>"$cache/locks/import-$1"
}

imported() {
    [[ -n $("${ctr[@]}" images list -q "name==$(reference "$1")") ]]
}

import_alone() {
    local file kept=true
    file=$(archive_of "$1")
    [[ -f $file ]] || kept=false
    archive "$1"
    "${ctr[@]}" images import "$file" >/dev/null
    $kept || rm "$file"
    printf 'imported %s\n' "$(reference "$1")"
}

main() {
    local command=${1:-} name separator=''
    shift || true
    case $command in
    refs)
        printf '{'
        while read -r name; do
            tag "$name"
            printf '%s"%s": "%s"' "$separator" "$name" "$(reference "$name")"
            separator=', '
        done < <(names)
        printf '}\n'
        ;;
    build | archive | import)
        [[ $# -gt 0 ]] || die "$command which images? there are: $(names | tr '\n' ' ')"
        mkdir -p "$cache/archives" "$cache/locks"
        for name in "$@"; do
            tag "$name"
            "$command" "$name"
            if [[ $command == archive ]]; then printf '%s\n' "$(archive_of "$name")"; fi
        done
        ;;
    *) die "usage: build.sh refs | build NAME... | archive NAME... | import NAME..." ;;
    esac
}

main "$@"
