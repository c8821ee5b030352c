-- The firewall mark by which the kernel of every appliance knows the packets of a layer 4 service
-- with several ports. Once given it stays with the service.
ALTER TABLE virtual_services ADD COLUMN mark INTEGER;

CREATE UNIQUE INDEX virtual_services_mark ON virtual_services (mark) WHERE mark IS NOT NULL;
