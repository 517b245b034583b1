#!/bin/sh
# Stands for the kernel's `make -C TREE O=OUTPUT ... TARGET...`. In $FAKES:
#   called   gets a line per call
#   env      gets the environment of the last call
#   image    becomes arch/arm64/boot/Image
#   loses    an option that allnoconfig drops
#   unknown  options that olddefconfig drops, one a line
#   defconfig becomes .config with the target virt_defconfig
#   module   becomes the module, in the output directory and installed
#   fails    present: compilation ends with this text and status 2
#   warns    in TREE and not there: printed below init/main.o
#   hangs    present: compilation goes on for ever; a child of it holds this file locked
set -eu
echo "$*" >>"$FAKES/called"
env >"$FAKES/env"
output=
into=
tree=$2
for argument; do
	case $argument in
	O=*) output=${argument#O=} ;;
	INSTALL_MOD_PATH=*) into=${argument#INSTALL_MOD_PATH=} ;;
	esac
done
case " $* " in
*" allnoconfig "*)
	echo "  HOSTCC  scripts/kconfig/conf.o"
	loses=$(cat "$FAKES/loses" 2>/dev/null || echo nothing)
	sed "s/^CONFIG_$loses=.*/# CONFIG_$loses is not set/" "$KCONFIG_ALLCONFIG" >"$output/.config"
	;;
*" virt_defconfig "*)
	cp "$FAKES/defconfig" "$output/.config"
	;;
*" olddefconfig "*)
	cp "$output/.config" "$FAKES/given"
	while read -r option; do
		sed -i "/^CONFIG_$option=/d" "$output/.config"
	done <"$FAKES/unknown"
	;;
*" Image "*)
	echo "make[1]: Entering directory '$output'"
	echo "  CC      init/main.o"
	mkdir -p "$output/init"
	touch "$output/init/main.o"
	if [ -e "$tree/warns" ]; then
		sed "s|^|$tree/|" "$tree/warns"
	fi
	echo "  CC [M]  drivers/net/dummy.o"
	if [ -e "$FAKES/fails" ]; then
		cat "$FAKES/fails"
		exit 2
	fi
	if [ -e "$FAKES/hangs" ]; then
		flock "$FAKES/hangs" sh -c 'while :; do echo "  CC      busy.o"; sleep 0.1; done'
	fi
	echo "  LD      vmlinux"
	mkdir -p "$output/arch/arm64/boot"
	cp "$FAKES/image" "$output/arch/arm64/boot/Image"
	echo vmlinux >"$output/vmlinux"
	mkdir -p "$output/drivers/net"
	cat "$FAKES/module" >"$output/drivers/net/dummy.ko" 2>/dev/null || echo dummy >"$output/drivers/net/dummy.ko"
	echo drivers/net/dummy.o >"$output/modules.order"
	;;
*" modules_install "*)
	modules=$into/lib/modules/6.12.1-test
	mkdir -p "$modules/kernel"
	cat "$FAKES/module" >"$modules/kernel/dummy.ko" 2>/dev/null || echo dummy >"$modules/kernel/dummy.ko"
	ln -s "$output" "$modules/build"
	;;
esac
