# Makes tulled@.service, for further networks on a host, from tulled.service.
s|^Description=.*|&, network %i|
s|^EnvironmentFile=.*|Environment=TULLED_ETCD_PREFIX=/tulle/%i TULLED_STATUS_ADDR=\
Environment=TULLED_SUBNET_FILE=/run/tulle/%i/subnet.env TULLED_STATE_DIR=/var/lib/tulle/%i\
# What is said here wins.\
EnvironmentFile=-/etc/default/tulled-%i|
s|^StateDirectory=tulle$|&/%i|
s|^RuntimeDirectory=tulle$|&/%i|
