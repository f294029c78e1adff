# A machine in namespaces of its own: the programs of this one below a layer in
# memory, no services but systemd's, and the files of the folder $1. Its first
# process has the number in $1.pid. It ends with this script.
set -eu
files=$1
name=orlop-$$

# Of the mounts below, none is seen outside.
mount -t tmpfs -o mode=755 tmpfs /mnt
cd /mnt
mkdir upper work root cgroup
mount -t cgroup2 cgroup2 cgroup
mkdir "cgroup/$name"

cat >inside.sh <<'END'
set -eu
read -r pid rest </proc/self/stat
echo "$pid" >"$1.pid"
echo 0 >"cgroup/$2/cgroup.procs"
cp -a "$1/." upper
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
rm -rf root/etc/systemd/system root/etc/fstab
mkdir root/etc/systemd/system
mount -t proc proc root/proc
mount -o bind,ro root/proc/sys root/proc/sys
mount -t sysfs -o ro sysfs root/sys
mount -t tmpfs -o mode=755 tmpfs root/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
mount -t tmpfs -o mode=755 tmpfs root/dev
for device in null zero full random urandom tty; do
  : >"root/dev/$device"
  mount -o bind "/dev/$device" "root/dev/$device"
done
mkdir root/dev/pts root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
exec unshare --cgroup sh -euc '
  mount -t cgroup2 cgroup2 root/sys/fs/cgroup
  cd root
  pivot_root . mnt
  umount -l /mnt
  mount --make-rshared /
  # A machine would set the clock of this one, and its kernel.
  exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog \
    env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --log-target=journal --show-status=false
'
END
unshare --mount --net --uts --ipc --pid --fork --kill-child sh inside.sh "$files" "$name" &
machine=$!
trap 'kill -KILL "$(cat "$files.pid")" || kill -KILL $machine' TERM
wait $machine || : # for the signal, or for the end
wait $machine || :
find "cgroup/$name" -depth -type d -exec rmdir {} \;
